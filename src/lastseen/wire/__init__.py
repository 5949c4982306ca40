"""What goes over the wire: one set of types, which the server answers with and the client reads.

Moments are ISO 8601 in UTC. Requests refuse fields that they do not know; answers may gain fields in any version.
"""
