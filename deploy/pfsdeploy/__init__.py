"""Kubernetes around the daemon: the objects that it is deployed as, their way to a cluster and back, and image pushes.

What runs a pipeline's workers in pods is `ppsd`'s; here is what comes before and after.
"""
