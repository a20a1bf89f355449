"""Keras 3 models of the user's own, on the torch backend; keras is imported only for one, which has imported it."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import nn

from sklearn_psp._nets._networks import BackboneRequest, on_one_line
from sklearn_psp._nets._weights import load_into
from sklearn_psp.exceptions import BackboneError, WeightsError
from sklearn_psp.utils._warnings import quiet_thread

__all__ = ["KerasMaps", "KerasModules"]

# Of the largest value of the maps: what a copy may differ from the model. On one device it differs by nothing.
_TOLERANCE = 1e-3


class KerasMaps(nn.Module):
    """Bring a Keras model's output to feature maps of shape (n, channels, rows, columns).

    Towards torch it is a module like any other: what Keras trains are its parameters, other weights (statistics of
    batch normalisation, layers that the user has frozen) its buffers, and `train` and `eval` decide on `training=` of
    the call. All of them are named by their position, because Keras numbers names anew in every process.

    Parameters
    ----------
    network : keras.Model
        The model, built; not a submodule, because Keras registers all its weights as parameters, some of them twice.

    Attributes
    ----------
    channels_last : bool
        Whether the model takes (n, height, width, 3) and gives (n, rows, columns, channels).
    fixed_size : bool
        Whether the model was built for one image size.
    """

    shapes = ("(n, height, width, 3)", "(n, rows, columns, channels)")
    remedy = (
        "cut the network before its global pooling, as include_top=False with pooling=None does in keras.applications"
    )

    network: Any
    _variables: dict[str, Any]
    _others: list[Any]

    def __init__(self, network: Any):
        super().__init__()
        self.__dict__["network"] = network
        self.channels_last = _is_channels_last(_input_shape(network))
        self.fixed_size = _built_size(network) is not None
        if not self.channels_last:
            self.shapes = ("(n, 3, height, width)", "(n, channels, rows, columns)")
        trained = {id(variable) for variable in network.trainable_variables}
        self.__dict__["_variables"] = {}
        for i, variable in enumerate(network.weights):
            name = f"{i:04}_{variable.name}".replace(".", "_")
            self._variables[name] = variable
            if id(variable) in trained:
                self.register_parameter(name, variable.value)
            else:
                self.register_buffer(name, variable.value.detach())
        known = {id(variable) for variable in network.weights}
        # The states of random generators, for dropout.
        self.__dict__["_others"] = [variable for variable in network.variables if id(variable) not in known]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of a batch (n, 3, height, width)."""
        maps = _call(self.network, x.permute(0, 2, 3, 1) if self.channels_last else x, training=self.training)
        return maps.permute(0, 3, 1, 2) if self.channels_last and getattr(maps, "ndim", 0) == 4 else maps

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)  # converts parameters in place, and puts new buffers in the place of the old ones
        for name, buffer in self._buffers.items():
            self._variables[name].value.data = buffer
        for variable in self._others:
            variable.value.data = fn(variable.value.data)
        return self

    def tensors(self, clone: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, bool]]:
        """Return the weights where they are and as they are, and which of them want gradients."""
        state = {name: variable.value.detach() for name, variable in self._variables.items()}
        if clone:
            state = {name: tensor.clone() for name, tensor in state.items()}
        return state, {name: parameter.requires_grad for name, parameter in self.named_parameters()}

    def put_tensors(self, tensors: dict[str, torch.Tensor], flags: dict[str, bool]) -> None:
        """Take the weights that `tensors` of another module of this network returned."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                value = self._variables[name].value
                value.data = tensor
                if name in self._buffers:
                    self._buffers[name] = value.detach()
                else:
                    value.requires_grad_(flags[name])
            for variable in self._others if tensors else ():
                variable.value.data = variable.value.data.to(next(iter(tensors.values())).device)

    def __deepcopy__(self, memo):
        return _restored(_copied(self.network), self.training, *self.tensors(clone=True))

    def __reduce__(self):
        return _restored, (self.network, self.training, *self.tensors())


class KerasModules:
    """Keras models and layers of the user's own, on the torch backend."""

    def knows(self, module: Any) -> bool:
        """Whether it is a model or layer of Keras, on any backend, without importing keras for it."""
        return any(
            base.__name__ == "Layer" and base.__module__.partition(".")[0] in ("keras", "tf_keras")
            for base in type(module).__mro__
        )

    def image_size(self, module: Any) -> tuple[int, int] | None:
        """Return (height, width) of the images a model is built for; None where it takes any.

        Raises
        ------
        BackboneError
            If its backend is not torch.
        """
        _refuse_other_backends(module)
        return _built_size(module)

    def build(self, module: Any, request: BackboneRequest, name: str) -> tuple[nn.Module, dict[str, Any]]:
        """Copy a Keras model, on the CPU and in float32.

        Parameters
        ----------
        module : keras.Model
            The model.
        request : BackboneRequest
            The backbone, its weights and its images.
        name : str
            Name of the model's class.

        Returns
        -------
        module : KerasMaps
            The copy.
        about : dict
            Fields of `BackboneSpec`.

        Raises
        ------
        BackboneError
            If the model's backend is not torch, or it is not built, or cannot be copied.
        WeightsError
            If other weights are asked for than the model has.
        """
        _refuse_other_backends(module)
        if request.weights != "default":
            raise WeightsError(
                f"weights={request.weights!r} with a Keras model: use weights='default', the weights it has, and "
                "model.load_weights(path) for others"
            )
        if not module.built:
            raise BackboneError(
                f"backbone={name!r} is a Keras model that is not built, and has no weights yet: give it a "
                "keras.Input((None, None, 3)), or call it once on a batch of images"
            )
        maps = KerasMaps(_copied(module)).to("cpu", torch.float32).eval()
        _check_copy(module, maps, request.image_size, name)
        return maps, {"tap": "call"}

    def state(self, module: Any) -> dict[str, torch.Tensor]:
        """Return the weights of a model, by position."""
        return KerasMaps(module).state_dict()

    def with_state(self, module: Any, state: dict[str, torch.Tensor]) -> Any:
        """Copy a model and give the copy the weights of `state`, every one of them.

        Raises
        ------
        WeightsError
            If names or shapes do not fit.
        """
        copied = _copied(module)
        load_into(KerasMaps(copied), state, name=type(module).__name__, origin="of the file")
        return copied


def _refuse_other_backends(model):
    if not isinstance(model, nn.Module):
        raise BackboneError(
            f"backbone={type(model).__name__!r} is a Keras model on the backend {_backend_name()!r}, and needs the "
            "backend 'torch': set the environment variable KERAS_BACKEND=torch before keras is imported, and load the "
            "model again (a .keras file fits every backend)"
        )


def _built_size(model):
    """Return (height, width) of the images a model is built for; None if for any."""
    shape = _input_shape(model)
    sides = () if shape is None else shape[1:3] if _is_channels_last(shape) else shape[2:4]
    return tuple(sides) if sides and None not in sides else None


def _copied(model):
    """Copy a model by way of what Keras saves, or layer by layer where that cannot be read back."""
    import keras

    # Of copies of arrays in NumPy 2, and of the state of the optimizer: nothing that the user could act on here.
    with quiet_thread(), torch.inference_mode(False):
        try:
            copied = copy.deepcopy(model)
        except Exception as saving_error:
            try:
                copied = keras.models.clone_model(model)
                copied.set_weights(model.get_weights())
            except Exception as error:
                raise BackboneError(
                    f"backbone={type(model).__name__!r} is a Keras model that cannot be copied: decorate its classes "
                    "with @keras.saving.register_keras_serializable() and give them get_config "
                    f"({type(saving_error).__name__}: {on_one_line(saving_error)})"
                ) from error
    return copied


def _check_copy(model, module, image_size, name):
    """Refuse a copy that gives something else: layers may keep state that Keras does not save."""
    noise = torch.rand(1, 3, *image_size, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    images = noise.permute(0, 2, 3, 1) if module.channels_last else noise
    device = next((variable.value.device for variable in model.weights), torch.device("cpu"))
    with torch.no_grad():  # not inference mode: what a layer makes at its first call could not be trained through later
        try:
            expected, maps = _call(model, images.to(device), training=False), module(noise)
        except Exception as error:
            raise BackboneError(
                f"backbone={name!r} cannot take images of image_size={image_size}: {type(error).__name__}: "
                f"{on_one_line(error)}"
            ) from error
    if getattr(expected, "ndim", 0) != 4:
        return  # `probe` says so
    expected = (expected.permute(0, 3, 1, 2) if module.channels_last else expected).cpu()
    difference = (maps - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
    if not difference <= _TOLERANCE:
        raise BackboneError(
            f"backbone={name!r}: a copy of this Keras model gives other feature maps (by {difference:.2g} of the "
            "largest value): let its layers keep all their state in weights, or in get_config"
        )


def _restored(network, training, tensors, flags):
    module = KerasMaps(network).train(training)
    module.put_tensors(tensors, flags)
    return module


def _call(model, x, *, training):
    import keras

    # Keras moves what it is given to its own device, which is the GPU where there is one.
    with keras.device(str(x.device)):
        return model(x, training=training)


def _input_shape(model):
    """Return the shape of the one input, or None where a model does not say it."""
    shape = getattr(model, "input_shape", None)
    return tuple(shape) if isinstance(shape, tuple) and len(shape) == 4 else None


def _is_channels_last(shape):
    import keras

    by_setting = keras.config.image_data_format() == "channels_last"
    if shape is None or (shape[1] == 3) == (shape[3] == 3):
        return by_setting
    return shape[3] == 3


def _backend_name():
    keras: Any = sys.modules.get("keras")
    return keras.backend.backend() if hasattr(keras, "config") else "tensorflow"
