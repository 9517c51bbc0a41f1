"""The daemon put together: file system, pipeline service and mount. The only package that knows all three."""
