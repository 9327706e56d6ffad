"""Handlers that call one another: each runs in the mode of its own kind."""

import threading

import torch
from torch import nn, optim

import webtorch

model = webtorch.Model(
    "nested", nn.Sequential(nn.Linear(1, 1), nn.Dropout()), lambda p: optim.SGD(p, lr=0.1)
)


@webtorch.infer
def infer(x):
    return model(x)


@webtorch.train
def train(x):
    before = infer(x)
    assert torch.is_grad_enabled() and not before.requires_grad
    model.step((model(x) - before.detach() + 1).pow(2).sum())
    return before


@webtorch.train
def train_twice(x):
    train(x)
    return train(x)


@webtorch.infer
def train_in_passing(x):
    train(x)
    assert not torch.is_grad_enabled()
    return infer(x)


X = torch.ones(1, 1)


def test_inference_has_no_gradients():
    assert not infer(X).requires_grad
    assert torch.is_grad_enabled()


def test_inference_results_can_be_trained_on():
    weight = torch.ones(1, requires_grad=True)
    (weight * infer(X)).sum().backward()
    assert weight.grad is not None


def test_training_functions_call_each_other():
    before = model.steps
    train_twice(X)
    assert model.steps == before + 2


def test_training_within_inference_has_gradients():
    before = model.steps
    with torch.no_grad():
        train_in_passing(X)
        assert not torch.is_grad_enabled()
    assert model.steps == before + 1


def test_training_waits_for_training_in_another_thread():
    inside, leave = threading.Event(), threading.Event()
    order = []

    @webtorch.train
    def first(x):
        inside.set()
        leave.wait()
        order.append("first")

    @webtorch.train
    def second(x):
        order.append("second")

    threads = [threading.Thread(target=first, args=(X,))]
    threads[0].start()
    inside.wait()
    threads.append(threading.Thread(target=second, args=(X,)))
    threads[1].start()
    assert threads[1].is_alive() and order == []
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]
