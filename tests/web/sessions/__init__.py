"""Login sessions over HTTP: the same application in every framework, asked by something that behaves like a browser."""
