"""What the other folders share; it imports nothing else of the package.

`errors`, `headers` and `trace_context` are parts of requests and answers, `process` is what code of
users may ask about its process. `pytorch` has the private functions of PyTorch that WebTorch uses;
`plain_tensors`, `reference_counts` and `optimizer_step` are built on such details of it. `files`
and `text` are of polls and of terminals.
"""
