"""Models: networks that handlers train and serve, with their optimizers.

`model` has the class that users see, `registry` all of the process by name. `model_state` says
where its tensors are: in this process or in the zone. `members`, `weights` and `packages` are about
what a network is made of, `eval_copy`, `compiled`, `placement` and `graphs` about how it is called,
`training` and `model_versions` about which weights a call uses.
"""
