"""nginx-conf/cluster: manifests are valid, and say what the configuration does."""

import configparser
import re
import subprocess

import kubernetes_validate
import yaml

from nginx import BINARY, ROOT, free_port, release_port

FOLDER = ROOT / "nginx-conf/cluster"

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor, nn, optim

net = webtorch.Model("net", nn.Linear(2, 1), lambda p: optim.SGD(p, lr=0.1))

@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return net(x)

@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    y = net(x)
    net.step(y.square().mean())
    return y.detach()
"""


def documents(name):
    return [*yaml.safe_load_all((FOLDER / name).read_text())]


def locations():
    return re.findall(r"location = (\S+)", (FOLDER / "nginx.conf").read_text())


def test_manifests_are_valid_for_kubernetes():
    found = documents("kubernetes.yaml")
    assert len(found) == 5
    for document in found:
        kubernetes_validate.validate(document, "1.30", strict=True)


def test_hosts_find_each_other():
    by_name = {
        (each["kind"], each["metadata"]["name"]): each for each in documents("kubernetes.yaml")
    }
    hosts = by_name["StatefulSet", "web"]["spec"]
    headless = by_name["Service", hosts["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"]
    assert hosts["podManagementPolicy"] == "Parallel"

    text = (FOLDER / "nginx.conf").read_text()
    host, port = re.findall(r"coordinator=([\w.-]+):(\d+)", text)[0]
    assert host == f"web-0.{hosts['serviceName']}"
    pod = hosts["template"]["spec"]
    (container,) = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {
        "http": 8000,
        "membership": int(port),
        "store": int(port) + 1,
        "guests": int(port) + 2,
    }
    assert {each["port"] for each in headless["ports"]} == {*ports.values()}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]["httpGet"]
        assert probe["path"] in locations() and probe["port"] in ports
    waits = re.findall(r"sleep (\d+)", container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert sum(map(int, waits)) < pod["terminationGracePeriodSeconds"]

    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert f"secret={mounts['secret'].removeprefix('/srv/app/')}/cluster.key" in text
    (secret,) = [each["secret"] for each in pod["volumes"] if each["name"] == "secret"]
    assert secret["defaultMode"] == 0o400


def test_runtime_of_kserve_has_the_protocol():
    runtime, service = documents("kserve.yaml")
    assert runtime["spec"]["protocolVersions"] == ["v2"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (container,) = runtime["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_unit_ends_with_a_last_contribution():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(FOLDER / "webtorch.service")
    assert unit["Service"]["KillSignal"] == "SIGQUIT"
    assert "webtorch run nginx.conf" in unit["Service"]["ExecStart"]


def test_configuration_passes_the_check(directory):
    port = free_port()
    text = (FOLDER / "nginx.conf").read_text().replace("listen  8000", f"listen  127.0.0.1:{port}")
    (directory / "nginx.conf").write_text(f"{BINARY.load_module}\npid nginx.pid;\n{text}")
    (directory / "app.py").write_text(APP)
    (directory / "secret").mkdir()
    (directory / "checkpoints").mkdir(mode=0o777)
    key = directory / "secret/cluster.key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o400)
    command = [BINARY.path, "-t", "-p", directory, "-c", directory / "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    release_port(port)
    assert done.returncode == 0, done.stderr
    key.chmod(0o444)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "cluster.key" in refused.stderr
