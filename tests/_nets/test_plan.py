"""Every "auto" is replaced by what was measured to be best, once; what is given is taken at its word."""

import copy
import sys

import pytest
import torch
from common.networks import ImageDependent, TinyNet, WithoutConversion

from sklearn_psp._nets import BackboneRequest, Plan, load_backbone, resolve_plan
from sklearn_psp._nets import _openvino_network as openvino_module
from sklearn_psp._nets import _plan as plan_module
from sklearn_psp.exceptions import BackboneError, DeviceError, MissingDependencyError, RuntimeFallbackWarning

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _nothing_measured_before(monkeypatch):
    monkeypatch.setattr(plan_module, "_PLANS", {})


def load(module):
    return load_backbone(BackboneRequest(module, "default", None, (16, 16)), refresh=True)


@pytest.fixture(scope="module")
def backbone():
    """One for all, whose compiled networks are kept with it."""
    return load(TinyNet())


@pytest.fixture
def fresh():
    """A backbone of the test's own, where what was compiled for another processor would hide what this one lacks."""
    return load(TinyNet())


@pytest.fixture
def without_openvino(monkeypatch):
    monkeypatch.setattr(plan_module, "is_installed", lambda name: False)


class Processor:
    """OpenVINO on a processor of our choice: what it cannot compute in is computed in float32."""

    def __init__(self, core, capabilities):
        self._core, self._capabilities = core, capabilities

    def get_property(self, device, name):
        return self._capabilities if name == "OPTIMIZATION_CAPABILITIES" else self._core.get_property(device, name)

    def compile_model(self, model, device, options):
        return self._core.compile_model(model, device, options | {"INFERENCE_PRECISION_HINT": "f32"})


def processor(monkeypatch, *capabilities):
    core = openvino_module.import_openvino().Core()
    monkeypatch.setattr(openvino_module, "_core", lambda process_id: Processor(core, list(capabilities)))


def cores(monkeypatch, n):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n)


def measured(monkeypatch, speed):
    """Let plans have the speed that a function tells; return the plans of every measurement."""
    calls = []

    def speeds(passes):
        calls.append(list(passes))
        return {plan: speed(plan) for plan in passes}

    monkeypatch.setattr(plan_module, "_speeds", speeds)
    return calls


def by_precision(float32, bfloat16):
    return lambda plan: {"float32": float32, "bfloat16": bfloat16}[plan.precision]


HALF_PRECISION = pytest.mark.parametrize(
    ("bfloat16", "expected"), [(300.0, "bfloat16"), (111.0, "bfloat16"), (109.0, "float32"), (20.0, "float32")]
)


@HALF_PRECISION
def test_auto_takes_bfloat16_of_torch_only_where_it_is_clearly_faster(monkeypatch, backbone, bfloat16, expected):
    measured(monkeypatch, by_precision(100.0, bfloat16))
    assert resolve_plan(backbone, CPU, runtime="torch").precision == expected


@HALF_PRECISION
def test_auto_takes_bfloat16_of_openvino_only_where_it_is_clearly_faster(monkeypatch, backbone, bfloat16, expected):
    processor(monkeypatch, "FP32", "BF16")
    calls = measured(monkeypatch, by_precision(100.0, bfloat16))
    plan = resolve_plan(backbone, CPU)
    assert (plan.runtime, plan.precision) == ("openvino", expected)
    assert [plan.precision for plan in calls[0]] == ["float32", "bfloat16"]


def test_auto_is_float32_where_openvino_has_no_half_precision(monkeypatch, fresh):
    processor(monkeypatch, "FP32")
    calls = measured(monkeypatch, by_precision(100.0, 300.0))
    assert resolve_plan(fresh, CPU).precision == "float32"
    assert calls == []


def test_auto_precision_and_batch_size_are_the_fastest_together(monkeypatch, backbone):
    def speed(plan):
        return 100.0 * (1 + (plan.precision == "bfloat16")) - abs(plan.batch_size - 16) + plan.n_workers

    cores(monkeypatch, 2)
    measured(monkeypatch, speed)
    assert resolve_plan(backbone, CPU, runtime="torch") == Plan("torch", "bfloat16", 16, n_workers=2)


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 2), (-1.0, 0)])
def test_torch_gives_every_core_a_batch_of_its_own_only_where_that_is_faster(monkeypatch, backbone, gain, expected):
    cores(monkeypatch, 2)
    calls = measured(monkeypatch, lambda plan: 100.0 + gain * plan.n_workers)
    plan = resolve_plan(backbone, CPU, runtime="torch", precision="float32", batch_size=4)
    assert plan == Plan("torch", "float32", 4, n_workers=expected)
    assert calls == [[Plan("torch", "float32", 4, 0), Plan("torch", "float32", 4, 2)]]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_given_precision_and_batch_size_are_taken_at_their_word(monkeypatch, backbone, precision):
    calls = measured(monkeypatch, lambda plan: 1.0)
    plan = resolve_plan(backbone, CPU, runtime="torch", precision=precision, batch_size=5)
    assert plan == Plan("torch", precision, 5)
    assert calls == [], "on one core nothing is left to measure"


def test_a_given_batch_size_is_taken_at_its_word_while_the_precision_is_measured(monkeypatch, backbone):
    calls = measured(monkeypatch, by_precision(100.0, 300.0))
    assert resolve_plan(backbone, CPU, runtime="torch", batch_size=5) == Plan("torch", "bfloat16", 5)
    assert {plan.batch_size for plan in calls[0]} == {5}


def test_openvino_takes_the_given_precision_and_batch_size(monkeypatch, backbone):
    processor(monkeypatch, "FP32", "BF16")
    calls = measured(monkeypatch, lambda plan: 1.0)
    plan = resolve_plan(backbone, CPU, runtime="openvino", precision="bfloat16", batch_size=5)
    assert (plan.runtime, plan.precision, plan.batch_size) == ("openvino", "bfloat16", 5)
    assert plan.n_workers >= 1
    assert calls == []


def test_a_network_is_measured_once(monkeypatch, backbone):
    calls = measured(monkeypatch, by_precision(100.0, 300.0))
    assert resolve_plan(backbone, CPU, runtime="torch") == resolve_plan(backbone, CPU, runtime="torch")
    assert len(calls) == 2, "the precisions, then the batch sizes"


def test_a_module_of_your_own_is_measured_once_however_often_it_is_copied(monkeypatch):
    module = TinyNet()
    calls = measured(monkeypatch, by_precision(100.0, 300.0))
    plans = [resolve_plan(load(m), CPU, runtime="torch") for m in (module, module, copy.deepcopy(module))]
    assert plans[0] == plans[1] == plans[2]
    assert len(calls) == 2


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"precision": "float32"}, {"compiled": True}])
def test_another_question_is_measured_anew(monkeypatch, backbone, change):
    monkeypatch.setattr(plan_module, "make_network", lambda *args, **kwargs: None)
    calls = measured(monkeypatch, lambda plan: 1.0)
    resolve_plan(backbone, CPU, runtime="torch")
    before = len(calls)
    resolve_plan(backbone, CPU, runtime="torch", **change)
    assert len(calls) > before


def test_another_number_of_cores_is_measured_anew(monkeypatch, backbone):
    calls = measured(monkeypatch, lambda plan: 1.0)
    for n in (2, 3):
        cores(monkeypatch, n)
        resolve_plan(backbone, CPU, runtime="torch", precision="float32", batch_size=1)
    assert [plans[1].n_workers for plans in calls] == [2, 3]


def test_networks_of_one_name_without_weights_have_plans_of_their_own(monkeypatch):
    class Network(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return self.factor * torch.nn.functional.avg_pool2d(x, 4)

    calls = measured(monkeypatch, lambda plan: 1.0)
    for factor in (1, 2):
        resolve_plan(load(Network(factor)), CPU, runtime="torch", batch_size=1)
    assert len(calls) == 2


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((7, 5), "float16")])
def test_a_gpu_computes_in_the_half_precision_it_has(monkeypatch, backbone, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_plan(backbone, CUDA, batch_size=4) == Plan("torch", expected, 4)


def test_other_devices_compute_in_float32(backbone):
    assert resolve_plan(backbone, torch.device("mps")) == Plan("torch", "float32", 64)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_gpu_takes_what_is_given_at_its_word(backbone, precision):
    plan = resolve_plan(backbone, CUDA, runtime="torch", precision=precision, batch_size=7, compiled=True)
    assert plan == Plan("torch", precision, 7, compiled=True)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_openvino_on_another_device_than_the_cpu_is_refused(backbone, device):
    with pytest.raises(DeviceError, match=f"runtime='openvino' runs on the CPU, but device='{device}'"):
        resolve_plan(backbone, torch.device(device), runtime="openvino")


def test_openvino_that_torch_should_compile_is_refused(backbone):
    with pytest.raises(DeviceError, match="compile=True is torch's: use it with runtime='torch'"):
        resolve_plan(backbone, CPU, runtime="openvino", compiled=True)


def test_auto_takes_openvino_where_it_is_installed(backbone):
    plan = resolve_plan(backbone, CPU, precision="float32")
    assert (plan.runtime, plan.precision, plan.batch_size) == ("openvino", "float32", 8)
    assert plan.n_workers >= 1


@pytest.mark.usefixtures("without_openvino")
def test_auto_takes_torch_where_openvino_is_not_installed(backbone):
    assert resolve_plan(backbone, CPU, precision="float32", batch_size=2) == Plan("torch", "float32", 2)


def test_auto_takes_torch_where_torch_should_compile(monkeypatch, backbone):
    monkeypatch.setattr(plan_module, "make_network", lambda *args, **kwargs: None)
    plan = resolve_plan(backbone, CPU, precision="float32", batch_size=2, compiled=True)
    assert plan == Plan("torch", "float32", 2, compiled=True)


def test_auto_takes_torch_for_a_precision_that_openvino_does_not_have_here(monkeypatch, fresh):
    processor(monkeypatch, "FP32")
    assert resolve_plan(fresh, CPU, precision="float16", batch_size=2) == Plan("torch", "float16", 2)


def test_a_precision_that_openvino_does_not_have_here_is_an_error_where_openvino_is_asked_for(monkeypatch, fresh):
    processor(monkeypatch, "FP32")
    with pytest.raises(DeviceError, match="precision='bfloat16': OpenVINO does not compute in it on this processor"):
        resolve_plan(fresh, CPU, runtime="openvino", precision="bfloat16")


UNFIT = pytest.mark.parametrize(
    ("module", "why"),
    [
        (WithoutConversion, "backbone='WithoutConversion' cannot be converted by OpenVINO"),
        (ImageDependent, "backbone='ImageDependent' gives other feature maps when OpenVINO runs it"),
    ],
)


@UNFIT
def test_auto_falls_back_to_torch_with_a_warning_that_says_why(module, why):
    with pytest.warns(RuntimeFallbackWarning, match=f"runtime='auto' takes torch instead of OpenVINO: {why}"):
        plan = resolve_plan(load(module()), CPU, precision="float32", batch_size=2)
    assert plan == Plan("torch", "float32", 2)


@UNFIT
def test_openvino_asked_for_a_network_it_cannot_run_is_an_error(module, why):
    with pytest.raises(BackboneError, match=f"(?s)^{why}.*; use runtime='torch'$"):
        resolve_plan(load(module()), CPU, runtime="openvino", precision="float32")


def test_openvino_asked_for_and_not_installed_is_an_error_with_the_line_for_pip(monkeypatch, backbone):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"runtime='openvino' needs .* pip install 'sklearn_psp\[cpu\]'"):
        resolve_plan(backbone, CPU, runtime="openvino")


def test_no_plan_is_kept_of_a_question_that_failed(monkeypatch, backbone):
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "openvino", None)
        with pytest.raises(MissingDependencyError):
            resolve_plan(backbone, CPU, runtime="openvino", precision="float32")
    assert resolve_plan(backbone, CPU, runtime="openvino", precision="float32").runtime == "openvino"


@pytest.mark.parametrize(
    ("free_gib", "mib_per_image", "expected"),
    [(128, 1, 256), (8, 64, 32), (8, 65, 16), (1, 1000, 1), (0.001, 1000, 1), (1, 0, 256)],
)
def test_batches_in_flight_take_half_of_the_free_memory(free_gib, mib_per_image, expected):
    assert plan_module._batch_size_for(free_gib * 2**30, mib_per_image * 2**20) == expected


def test_measuring_really_runs_every_plan(monkeypatch, backbone):
    ran = {}

    class Counted:
        def __init__(self, plan):
            self.plan = plan

        def maps(self, batch):
            assert torch.is_inference_mode_enabled()
            ran.setdefault(self.plan, []).append(tuple(batch.shape))

    monkeypatch.setattr(plan_module, "make_network", lambda backbone, plan, device, views: Counted(plan))
    plans = [
        Plan("torch", "float32", 1),
        Plan("torch", "bfloat16", 2, n_workers=2),
        Plan("openvino", "float32", 3, n_workers=1),
    ]
    speeds = plan_module._speeds({plan: plan_module._pass(backbone, plan, CPU) for plan in plans})
    assert list(speeds) == plans
    assert all(speed > 0 for speed in speeds.values())
    for plan in plans:
        assert set(ran[plan]) == {(plan.batch_size, 3, 16, 16)}
        per_round = 2 * plan.n_workers or 1
        assert len(ran[plan]) in [per_round * n_rounds for n_rounds in range(2, 7)]


def test_measuring_stops_after_its_budget_but_not_before_one_round(monkeypatch, backbone):
    runs = []
    monkeypatch.setattr(plan_module, "_BUDGET_S", -1.0)
    plan_module._speeds({Plan("torch", "float32", 1): (lambda executor: runs.append(1), 1)})
    assert len(runs) == 2, "one that does not count, one that does"


def test_measuring_with_the_real_networks_gives_a_plan_that_is_one_of_those_measured(backbone):
    plan = resolve_plan(backbone, CPU, runtime="torch", batch_size=2)
    assert plan in [Plan("torch", precision, 2) for precision in ("float32", "bfloat16")]
