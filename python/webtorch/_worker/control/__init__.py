"""Orders of operators: the handler of webtorch_control, and the thread that follows orders.

`handler` finds the action of a request: one of `model_actions`, `repository`, `balancers`, `guards`
or `draining`. These use `arguments`, what requests name, `files`, the checkpoints, and `orders`,
which `follower` follows in each worker. `peers` are the servers of balancers.
"""
