"""Messages of the wire API: Pachyderm 1.5's packages and this project's extensions.

Services are bound from the same descriptors by `pfsd.rpc`, so there is no generated service code.
"""
