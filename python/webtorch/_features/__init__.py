"""Features of requests as C computes them, for `webtorch.features` and `webtorch.detect`.

`path_tokens` and `field_nets` describe what the sources in ngx_webtorch/features/ do.
"""
