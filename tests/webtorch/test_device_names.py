"""Names of devices."""

import logging

import pytest

import webtorch
from webtorch._device import devices


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    monkeypatch.setenv("WEBTORCH_SIMULATED_DEVICE", "2")
    monkeypatch.setattr(devices, "_is_told", False)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", 0, None])
def test_device_name_is_refused(name):
    with pytest.raises(ValueError, match="device is"):
        devices.check(name)


def test_device_of_a_decorator_is_checked():
    with pytest.raises(ValueError, match="device is"):
        webtorch.infer(device="tpu")
    with pytest.raises(ValueError, match="device is"):
        webtorch.train(device="cuda:first")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cpu", ""), ("", ""), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("auto", "cuda:0")],
)
def test_device_name_is_resolved(name, expected):
    assert devices.resolve(name) == expected


def test_device_that_is_not_there(monkeypatch, caplog):
    with pytest.raises(devices.DeviceError, match='device "cuda:2": PyTorch finds 2 devices'):
        devices.resolve("cuda:2")
    monkeypatch.setenv("WEBTORCH_SIMULATED_DEVICE", "0")
    with pytest.raises(devices.DeviceError, match="finds no device"):
        devices.resolve("cuda")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert devices.resolve("auto", announces=True) == ""
    assert caplog.text.count('device "auto" is the CPU') == 1


def test_device_of_a_master_that_has_used_cuda(monkeypatch):
    monkeypatch.delenv("WEBTORCH_SIMULATED_DEVICE")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    with pytest.raises(devices.DeviceError, match="webtorch_preload"):
        devices.resolve("cuda")


def test_device_is_given_to_nobody_before_models_are_prepared_for_it(monkeypatch):
    def fail():
        raise RuntimeError("a model is not prepared")

    monkeypatch.setattr(devices, "_devices", {})
    monkeypatch.setattr(devices, "listeners", [fail])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not prepared"):
            devices.open_device("cuda:0")
