"""Models: networks that handlers train and serve, with their optimizers."""

import math
import sys
import threading
import types
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from webtorch._device import devices
from webtorch._metrics.counts import Counts
from webtorch._models import model_state, model_versions
from webtorch._models.cluster import ModelCluster, describe_cluster
from webtorch._models.compiled import Compiled
from webtorch._models.eval_copy import EvalCopy, copy_module
from webtorch._models.graphs import check_sizes
from webtorch._models.members import EVALUATION, TRAINING, Members
from webtorch._models.model_versions import DEFAULT, VersionError, chosen
from webtorch._models.packages import as_network
from webtorch._models.placement import Evaluation, Place, PlacedEvaluation, PlacedTraining
from webtorch._models.registry import Models
from webtorch._models.training import progress, training
from webtorch._models.weights import Weights, load_weights
from webtorch._zone.layout import mismatch
from webtorch._zone.shared_state import SharedState

models: Models["Model"] = Models()
"""The models of this process."""

devices.listeners.append(models.use_devices)


class Model:
    """A network that handlers train and serve.

        xor = webtorch.Model(
            "xor",
            nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)),
            optimizer=lambda parameters: optim.SGD(parameters, lr=0.01),
        )

        @webtorch.infer
        def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
            return xor(x)

    Within a function under `@webtorch.train` it is in training mode, elsewhere in evaluation
    mode (see `torch.nn.Module.eval`). Both modes use the same parameters and buffers.

    With `webtorch_zone` in nginx's configuration all workers share one model: its parameters,
    persistent buffers and the state of its optimizer are in shared memory, where workers that start
    later find them. Without it each worker has a model of its own.

    Args:
        name: Name of the model, unique in the process and not empty. Its state in shared memory
            and its checkpoints are found by it.
        module: The network.
        optimizer: Makes the optimizer from an iterator of the network's parameters. By default
            there is none, and the model cannot be trained.
        lock: Whether to train in strict order over all workers, by default False: workers step
            at any time ("Hogwild!"). With True, each call of a training function that uses the
            model has it to itself, and if the call fails or its worker crashes before a step is
            complete, the model is restored.
        version: Which version of the model of this name it is, by default "1". Versions have the
            same architecture and separate weights, in shared memory and in checkpoints, where
            their name is `name@version`. With `model=name@version` calls of a location use
            that one wherever the code calls one of the same name.
        weights: The weights that it begins with, a state dict or the path of a file that has one,
            of `torch.save()` or safetensors (`*.safetensors`). A relative path begins where the
            file that makes the model is. By default they are those of the module. They are not
            used if the model is in shared memory already, or has a checkpoint.
        device: Where it runs: "cpu", "cuda", "cuda:1" and so on, or "auto", which is "cuda" if
            there is one. By default it runs where the function does that calls it. Its tensors on
            the CPU are the ones that are trained, shared and saved.
        cluster: Whether it is one model over all hosts of `webtorch_cluster`, by default True. With
            False each host trains its own. One without an optimizer is never one over hosts.
        graphs: Numbers of rows for which evaluation on a device is recorded as a graph, for example
            `[1, 8, 64]`, by default none. Rows are padded to the next number, so each row of the
            output must depend on that row of the input alone.
        compile: Whether evaluation runs code of `torch.compile`, by default False. Workers compile
            before they take requests, for the inputs that functions under `@webtorch.infer` pass on
            when they are called with zeros, and for others in a thread, while calls run as without
            it.

    Attributes:
        name: Its name.
        version: Its version.

    Raises:
        ValueError: `device` is not the name of a device, or that is not there; `graphs` is not a
            list of numbers from 1 to 65536; the name is taken,
            empty, too long or has an "@", the version has other
            characters than letters, digits, ".", "_" and "-", its architecture is not that of
            another version, the weights do not fit, or the module or the optimizer cannot be used
            or cannot be shared by workers.
        TypeError: `module` is not a network, or `optimizer` is not a function.
        OSError: The file of the weights cannot be read.
        MemoryError: The zone has no room for the model.

    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        optimizer: Callable[[Iterator[nn.Parameter]], Optimizer] | None = None,
        *,
        lock: bool = False,
        weights: Weights | None = None,
        version: str = DEFAULT,
        device: str = "",
        graphs: Sequence[int] = (),
        cluster: bool = True,
        compile: bool = False,
    ) -> None:
        model_versions.check(version)
        if not name or "@" in name:
            raise ValueError(f'a model needs a name of its own, "{name}" is empty or has an "@"')
        if isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer= is a function that makes one, as in "
                "lambda parameters: optim.SGD(parameters, lr=0.01)"
            )
        module = as_network(module)
        code = _caller_of(self)
        identity = 0 if weights is None else load_weights(module, weights, code.parent)
        place = Place(devices.check(device)) if device else None
        maker = _Maker(optimizer, lock, code, place, check_sizes(graphs), cluster, compile)
        self._begin(name, version, module, maker, identity)

    def _begin(
        self,
        name: str,
        version: str,
        module: nn.Module,
        maker: "_Maker",
        identity: int = 0,
        has_files: bool = False,
    ) -> None:
        """Make the model; with `has_files` its weights are those of its files alone."""
        key = model_versions.key_of(name, version)
        if key in models:
            raise ValueError(f'a model needs a name of its own, "{key}" is taken')
        _refuse_tensors(module)
        self.name = name
        self.version = version
        self.is_of_code = not has_files
        self._maker = maker
        self._module = module
        # held while the network has the tensors of a device, see PlacedTraining
        self._swapping = threading.RLock()
        self._refuse_another_architecture()
        self._training: Callable[..., Any] = module.train()
        own = maker.optimizer(module.parameters()) if maker.optimizer else None
        self._optimizer = own
        previous = models.previous(key)
        if previous:
            _copy_weights(module, previous._module)
        self._counts = Counts(key)
        self._evaluation: Evaluation | PlacedEvaluation = self.evaluate(module)
        self.state = model_state.create_state(
            key, module, own, maker.lock, maker.code, identity, has_files, maker.cluster
        )
        if previous and isinstance(self.state, model_state.LocalState):
            self.state.steps = previous.state.steps
        self.strict = self.state if isinstance(self.state, SharedState) and maker.lock else None
        self._members = Members(module, self._evaluation.module, self.state.shares)
        self._imported: list[int] = []
        self._guards: list[RemovableHandle] = []
        if isinstance(self.state, SharedState) and models.is_importing():
            self._imported = _fingerprint(module)
            self._guards = [*_guard(module)]
        if maker.place or models.uses_devices:
            self.place()
        self._counts.load(True)
        models[key] = self

    def place(self) -> None:
        """Let it run on devices, too."""
        if not isinstance(self._evaluation, PlacedEvaluation):
            place = self._maker.place or Place("")
            self._evaluation = PlacedEvaluation(self, self._evaluation, place, self._maker.graphs)
            self._training = PlacedTraining(self._module, place, self._swapping)

    @property
    def is_compiled(self) -> bool:
        """Whether evaluation runs code of `torch.compile`."""
        return self._maker.compile

    def evaluate(self, module: nn.Module) -> Evaluation:
        """Return what calls a network in evaluation mode, with the network's tensors.

        Raises:
            ValueError: The module cannot be copied.

        """
        evaluation = EvalCopy(module)
        return Compiled(self.key, evaluation, self._counts) if self.is_compiled else evaluation

    def copy_network(self) -> nn.Module:
        """Return a copy of the network of this version, with tensors of its own.

        Raises:
            ValueError: The module cannot be copied.

        """
        with self._swapping:
            return copy_module(self._module)

    @property
    def revision(self) -> tuple[object, object]:
        """Its steps and the memory of its tensors: one of them changes if another process steps."""
        state = self.state
        if isinstance(state, SharedState):
            steps, applied, blocks = state.revision
            return (steps, applied), blocks
        return state.steps, None

    def add_version(self, version: str) -> "Model":
        """Return a new version of this model, whose weights are in the zone or in its files.

        Raises:
            VersionError: It has neither, or the version is not one.
            ValueError: The module cannot be copied.
            MemoryError: The zone has no room for it.

        """
        try:
            model_versions.check(version)
        except ValueError as error:
            raise VersionError(str(error)) from None
        made = type(self).__new__(type(self))
        made._begin(self.name, version, self.copy_network(), self._maker, has_files=True)
        return made

    def count_unloaded(self) -> None:
        """Note that requests cannot choose the version any more."""
        self._counts.load(False)

    def _refuse_another_architecture(self) -> None:
        for version, other in models.versions(self.name).items():
            reason = mismatch(other._module.state_dict(), self._module.state_dict())
            if reason:
                raise ValueError(
                    f'version "{self.version}" of model "{self.name}" has another architecture '
                    f'than version "{version}": {reason}; give it a name of its own'
                )

    def __getattr__(self, name: str) -> Any:
        """Refuse what is the network's, such as `parameters()`, and say where it is."""
        text = f"a Model has no {name!r}, the network is model.module"
        raise AttributeError(text, name=name, obj=self)

    def __reduce__(self) -> Any:
        """Refuse to copy or pickle the model, which belongs to its process and name."""
        raise TypeError(
            "a Model is neither copied nor pickled: copy model.module, or save its state_dict()"
        )

    @property
    def key(self) -> str:
        """The name and the version, `xor@2`; without the version if that is the first."""
        return model_versions.key_of(self.name, self.version)

    @property
    def module(self) -> nn.Module:
        """The network, of the version that the current call uses."""
        module: nn.Module = chosen(self)._module
        return module

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer of this worker, or None. Its learning rates may be changed."""
        optimizer: Optimizer | None = chosen(self)._optimizer
        return optimizer

    @property
    def steps(self) -> int:
        """The number of optimizer steps made, in all workers that share the model.

        In a cluster those of all hosts, as far as this one knows them.
        """
        steps: int = chosen(self).state.steps
        return steps

    @property
    def cluster(self) -> ModelCluster | None:
        """What this host knows of the others that train the model; None: there are none."""
        state = chosen(self).state
        return describe_cluster(state) if isinstance(state, SharedState) else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network with its own arguments; only `@webtorch.train` records gradients."""
        if model_versions.table and (other := chosen(self)) is not self:
            return other(*args, **kwargs)
        # of a frozen model: training mode would change buffers, as those of batch normalization
        if not torch.is_grad_enabled() or self.state.frozen:
            output = self._evaluation(*args, **kwargs)
            self._members.gather(EVALUATION)
            return output
        if training.held_by_this_thread():
            training.use(self)
        return self._training(*args, **kwargs)

    def step(self, loss: Tensor) -> None:
        """Make one step of the optimizer along the gradient of a loss, unless it is frozen.

        Args:
            loss: Tensor of one element, computed from the model's outputs.

        Raises:
            RuntimeError: The model has no optimizer, or the loss no gradient.
            TypeError: The loss is not a tensor.
            ValueError: It has several elements, or none.
            FloatingPointError: The loss is not finite; the model is not changed.

        """
        chosen(self)._step(loss)

    def _step(self, loss: Tensor) -> None:
        if self._optimizer is None:
            raise RuntimeError(f'model "{self.key}" has no optimizer')

        if self.state.frozen:
            return
        _check_loss(self.key, loss)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f'the loss of model "{self.key}" is {value}')

        if self.strict:
            with training:
                training.use(self)
                self.state.step(loss)
                training.commit(self)
        else:
            self.state.step(loss)
            if training.held_by_this_thread():
                training.commit(self)
            else:
                self.gather()
        progress.mark()
        self._counts.step(value)

    @property
    def frozen(self) -> bool:
        """Whether an operator has stopped the training of the version of a call."""
        return bool(chosen(self).state.frozen)

    def mark_changed(self) -> None:
        """Count a change of buffers that no optimizer has made as a step, unless it is frozen.

        So a checkpoint is written, as after a step.
        """
        model = chosen(self)
        if not model.state.frozen:
            model.state.count_step()

    def gather(self) -> None:
        """Copy the values that a call has reassigned to where all workers read them.

        Raises:
            ValueError: The dtype or shape of a tensor that workers share has changed.

        """
        with self._swapping:
            self._members.gather(TRAINING)
        self.state.gather()

    def put_back(self) -> None:
        """Discard what a call has reassigned."""
        with self._swapping:
            self._members.put_back(TRAINING)
        if self.strict:
            self.strict.put_back()

    def refuse_changes(self) -> None:
        """Raise an error if parameters that workers share were changed without a step since then.

        Raises:
            ValueError: They were.

        """
        while self._guards:
            self._guards.pop().remove()
        if not self._imported or progress.has_stepped():
            return
        if _fingerprint(self._module) != self._imported:
            raise ValueError(f'model "{self.key}": {_CHANGED}')


@dataclass(frozen=True)
class _Maker:
    """What makes the versions of a model."""

    optimizer: Callable[[Iterator[nn.Parameter]], Optimizer] | None
    lock: bool
    code: Path
    place: Place | None = None
    graphs: Sequence[int] = ()
    cluster: bool = True
    compile: bool = False


_CHANGED = (
    "its weights are changed after Model(), but workers share them, and each reload and each new "
    "worker would set them back: pass them as Model(..., weights=...)"
)

_guarded: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def _guard(module: nn.Module) -> Iterator[RemovableHandle]:
    """Refuse load_state_dict() until the hooks are removed; copies of the module may load."""
    for part in module.modules():
        if not isinstance(part, ScriptModule):  # which has no such hooks
            _guarded.add(part)
            yield part.register_load_state_dict_pre_hook(_refuse_load)  # type: ignore[no-untyped-call]


def _refuse_load(part: nn.Module, *_: Any) -> None:
    if part in _guarded and models.is_importing():
        raise ValueError(_CHANGED)


def _fingerprint(module: nn.Module) -> list[int]:
    """Return numbers that differ if the parameters have been changed meanwhile.

    In workers they do not if PyTorch counts no change (`parameter.data.fill_(0)`), as other workers
    may write to the parameters, too.
    """
    found = [parameter._version for parameter in module.parameters()]
    if model_state.checks:
        for parameter in module.parameters():
            found.append(zlib.crc32(parameter.detach().reshape(-1).view(torch.uint8).numpy().data))
    return found


def _caller_of(made: "Model") -> Path:
    """Return the file that makes a model, which is not that of a subclass."""
    frame = sys._getframe(1)
    while frame.f_back and _first_argument(frame) is made:
        frame = frame.f_back
    return Path(frame.f_code.co_filename)


def _first_argument(frame: types.FrameType) -> Any:
    return frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))


def _refuse_tensors(module: nn.Module) -> None:
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f'"{key}" of a lazy module has no shape yet: call the module once before Model()'
            )
        if tensor.is_inference():
            raise ValueError(
                f'"{key}" was made in torch.inference_mode(), and cannot be changed outside of it: '
                "make the module without that, or in torch.no_grad()"
            )


def _copy_weights(module: nn.Module, previous: nn.Module) -> None:
    """Copy the tensors of the previous module that have the same name, dtype and shape."""
    old = previous.state_dict()
    for key, tensor in module.state_dict().items():
        if key in old and (tensor.dtype, tensor.shape) == (old[key].dtype, old[key].shape):
            tensor.copy_(old[key])


def _check_loss(key: str, loss: Any) -> None:
    """Raise an error if nothing can be trained along a loss."""
    name = f'the loss of model "{key}"'
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name} is of {type(loss)}: pass the tensor, not the number in it")
    if loss.numel() != 1:
        raise ValueError(f"{name} has {loss.numel()} elements: pass one, as loss.mean()")
    if not loss.requires_grad:
        recorded = "compute it from the model's outputs, without detach()"
        if not torch.is_grad_enabled():
            recorded = "train in a function under @webtorch.train, others record no gradients"
        raise RuntimeError(f"{name} has no gradient: {recorded}")
