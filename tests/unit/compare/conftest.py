import pytest

from step_ahsar import engine

LAYER = {
    "name": "block.fc", "kind": "linear", "group": "mlp", "macs": 40.0, "synaptic_operations": 10.0, "rates": [0.25],
    "analog": False, "inputs": [8.0], "outputs": 20.0, "weights": 10, "steps": 4, "updates": 0.0, "spikes": 0.0,
}  # fmt: skip
OPERATIONS = {
    "macs": 0.0, "macs_repeated": 0.0, "synaptic_operations": 10.0, "dense_macs": 10.0, "updates": 0.0,
    "time_steps": 4, "samples": 3, "layers": [LAYER],
}  # fmt: skip


class Training:
    """Stands in for `engine.train`: leaves what it leaves on disk; goes wrong where it is told to."""

    def __init__(self, monkeypatch):
        self.runs, self.faults = [], {}
        monkeypatch.setattr(engine, "train", self)

    def __call__(self, config, out, resume, on_epoch, on_step, datasets):
        assert resume
        assert config.compare is None
        key = config.model.neuron, config.seed
        self.runs.append(key)
        run = engine.Run.open(out, config, resume)
        run.begin({
            "seed": config.seed, "started": "2026-01-01T00:00:00+00:00", "task": "classification", "metric": "acc1",
            "parameters": 7, "device": "cpu", "dataset": datasets.describe(), "versions": {"torch": "2"},
            "hardware": {"cores": 2}, "git_commit": None,
        })  # fmt: skip
        done = len(run.metrics())
        for epoch in range(done + 1, config.train.epochs + 1):
            if epoch == 2 and key in self.faults:
                fault = self.faults[key]
                if isinstance(fault, engine.NonFiniteLoss):
                    run.write_result(self._result(config, run.metrics(), "failed", str(fault)))
                raise fault
            run.add_metrics(self._row(epoch, config.model.neuron))
            on_epoch(run.metrics()[-1])
        run.write_result(self._result(config, run.metrics(), "ok", None))
        return run.result()

    @staticmethod
    def _row(epoch, neuron):
        scale = 0.5 if neuron == "ahsar" else None
        row = {
            "epoch": epoch, "train_loss": 1 / epoch, "metric": "acc1", "metrics": {"acc1": 0.45 * epoch}, "lr": 0.1,
            "step_ms": 3.0, "firing_rate": {"mlp": 0.2}, "dead_fraction": 0.1, "seconds": 9.0 if epoch == 1 else 1.0,
            "layers": {
                "block.mlp": {
                    "group": "mlp", "rate": 0.1 * epoch, "threshold_scale": scale, "dead_fraction": 0.25 * epoch,
                },
            },
        }  # fmt: skip
        return row | ({"gamma": {"mlp": 1.0}} if scale else {})

    @staticmethod
    def _result(config, rows, status, error):
        results = {
            "metrics": rows[-1]["metrics"] if rows else None, "best": {"epoch": 1, "metrics": {"acc1": 0.4}},
            "step_ms": 3.0, "peak_memory_mib": 9.0, "firing_rate": {"mlp": 0.2},
            "threshold_scale": None, "dead_fraction": 0.1, "operations": OPERATIONS, "energy": {"compute-fp32": 9e-6},
            "neurons": {"block.mlp": {"group": "mlp", "quantiles": [0.1] * 5, "dead": 0.1, "saturated": 0.0}},
        }  # fmt: skip
        if status != "ok":
            results = dict.fromkeys(results)
        return {"seed": config.seed, "status": status, "error": error, "epochs": rows, "metric": "acc1", **results}


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)
