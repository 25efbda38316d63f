"""The launchers of clusters, with stand-ins for their commands. On real ones: scripts/test-slurm, scripts/test-ray."""

import os
import pickle
from importlib.util import find_spec

import pytest

from step_ahsar.compare import PlannedRun
from step_ahsar.compare.launchers import LAUNCHERS, check_launch, slurm
from step_ahsar.config import Config, LaunchConfig
from step_ahsar.errors import UserError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")

RUNS = [PlannedRun(cell, seed, 2, Config()) for cell in ("a", "b") for seed in (0, 1)]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with Slurm's commands. `states` is what squeue prints, `log` has a line for each call of the others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {
        "srun": "",
        "squeue": f"cat {folder}/states",
        "scancel": f'echo "scancel $*" >> {folder}/log',
        "sbatch": f'echo "sbatch $*" >> {folder}/log; cp "${{@: -1}}" {folder}/script; echo Submitted batch job 12',
    }
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "states").write_text("")
    (folder / "log").write_text("")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_ASK_EVERY", 0.0)
    return folder


def jobs(tmp_path, **keys):
    return slurm.SlurmJobs(tmp_path / "out", LaunchConfig(launcher="slurm", jobs=3, **keys))


def job_file(tmp_path, run):
    return tmp_path / "out" / "runs" / run.cell / f"{run.seed}.job.txt"


def test_the_config_reaches_slurm(cluster, tmp_path):
    jobs(tmp_path, threads=4, gpus=2, memory=1.5, partition="long", time=90).submit(RUNS)
    script = (cluster / "script").read_text().splitlines()
    wanted = {
        *("--array=0-3%3", "--cpus-per-task=4", "--gpus-per-node=2", "--ntasks-per-node=2", "--nodes=1"),
        *("--mem=1536M", "--partition=long", "--time=90", "--requeue", "--job-name=step-ahsar"),
    }
    assert wanted <= {line.removeprefix("#SBATCH ") for line in script}
    assert [job_file(tmp_path, run).read_text() for run in RUNS] == ["12_0", "12_1", "12_2", "12_3"]


def test_what_is_not_configured_is_left_to_slurm(cluster, tmp_path):
    """Fault: submitit would set a time limit of five minutes."""
    jobs(tmp_path).submit(RUNS[:2])
    script = (cluster / "script").read_text()
    assert "--cpus-per-task=1" in script
    assert "--ntasks-per-node=1" in script
    for option in ("--time", "--mem", "--partition", "--gpus"):
        assert option not in script


def test_jobs_that_wait_or_run_are_not_submitted_again(cluster, tmp_path):
    for run, job in zip(RUNS, ("7_0", "7_1", "8", "9"), strict=True):
        job_file(tmp_path, run).parent.mkdir(parents=True, exist_ok=True)
        job_file(tmp_path, run).write_text(job)
    (cluster / "states").write_text("7_0 RUNNING\n7_1 PENDING\n8 TIMEOUT\n")
    launcher = jobs(tmp_path)
    launcher.submit(RUNS)
    assert "--array=0-1%2" in (cluster / "script").read_text()
    assert [job_file(tmp_path, run).read_text() for run in RUNS] == ["7_0", "7_1", "12_0", "12_1"]
    (cluster / "states").write_text("7_0 RUNNING\n7_1 REQUEUED\n12_0 RUNNING\n12_1 COMPLETED\n")
    launcher.close()
    assert (cluster / "log").read_text().splitlines()[-1] == "scancel 7_0 7_1 12_0"


def test_nothing_is_submitted_if_all_jobs_are_there(cluster, tmp_path):
    job_file(tmp_path, RUNS[0]).parent.mkdir(parents=True)
    job_file(tmp_path, RUNS[0]).write_text("7")
    (cluster / "states").write_text("7 COMPLETING\n")
    launcher = jobs(tmp_path)
    launcher.submit(RUNS[:1])
    (cluster / "states").write_text("")
    launcher.close()
    assert (cluster / "log").read_text() == ""


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("CANCELLED", "it was cancelled"),
        ("TIMEOUT", "it ran out of time, launch.time"),
        ("OUT_OF_MEMORY", "it ran out of memory, launch.memory"),
        ("BOOT_FAIL", "its node did not start"),
        ("NEW_STATE", "it has ended"),
    ],
)
def test_lost_jobs_have_slurms_reason(cluster, tmp_path, state, meaning):
    launcher = jobs(tmp_path)
    launcher.submit(RUNS)
    (cluster / "states").write_text(f"12_0 RUNNING\n12_1 {state}\n12_2 PENDING\n12_3 SUSPENDED\n")
    log = tmp_path / "out" / "jobs" / "12_1_0_log.err"
    log.write_text("slurmstepd-n1: error: *** STEP 12.1 ON n1 ENDED ***\nsrun: error: n1: task 0: Killed\n")
    expected = f"Slurm job 12_1 ended as {state}: {meaning} (STEP 12.1 ON n1 ENDED); its log is {log}"
    assert launcher.lost() == {RUNS[1]: expected}


def test_files_of_a_job_that_ended_may_be_on_their_way(cluster, tmp_path, monkeypatch):
    launcher = jobs(tmp_path)
    launcher.submit(RUNS[:1])
    (cluster / "states").write_text("12 COMPLETED\n")
    launcher._jobs = {RUNS[0]: "12"}
    assert launcher.lost() == {}
    (cluster / "states").write_text("")
    assert launcher.lost() == {}
    (cluster / "states").write_text("12 COMPLETED\n")
    monkeypatch.setattr(slurm, "_PATIENCE", 0.0)
    assert "ended as COMPLETED: it has ended without a result" in launcher.lost()[RUNS[0]]
    (cluster / "states").write_text("")
    again = jobs(tmp_path)
    again._jobs = {RUNS[0]: "12"}
    assert "ended as unknown: Slurm does not know it any more" in again.lost()[RUNS[0]]


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL"])
def test_slurm_has_time_to_requeue_a_job(cluster, tmp_path, monkeypatch, state):
    """However often: a run that goes on again has all of that time once more."""
    clock = 100.0
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock)
    launcher = jobs(tmp_path)
    launcher._jobs = {RUNS[0]: "12"}
    for _ in range(3):
        for now in (state, "PENDING", "RUNNING"):
            clock += 0.7 * slurm._PATIENCE
            (cluster / "states").write_text(f"12 {now}\n")
            assert launcher.lost() == {}
    (cluster / "states").write_text(f"12 {state}\n")
    assert launcher.lost() == {}
    clock += slurm._PATIENCE + 1
    assert f"Slurm job 12 ended as {state}" in launcher.lost()[RUNS[0]]


def test_a_slurm_that_does_not_answer_for_a_while_is_waited_for(cluster, tmp_path, monkeypatch):
    clock = 100.0
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock)
    launcher = jobs(tmp_path)
    launcher._jobs = {RUNS[0]: "12"}
    (cluster / "states").write_text("12 RUNNING\n")
    answers = (cluster / "squeue").read_text()
    for script in ("#!/bin/bash\nexit 1\n", answers, "#!/bin/bash\nexit 1\n"):
        (cluster / "squeue").write_text(script)
        clock += 0.7 * slurm._PATIENCE
        assert launcher.lost() == {}
    clock += slurm._PATIENCE
    with pytest.raises(UserError, match="Slurm does not answer"):
        launcher.lost()


def test_slurm_is_asked_now_and_then(cluster, tmp_path, monkeypatch):
    launcher = jobs(tmp_path)
    launcher.submit(RUNS)
    monkeypatch.setattr(slurm, "_ASK_EVERY", 1000.0)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: launcher._asked + 999.0)
    (cluster / "squeue").unlink()
    assert launcher.lost() == {}


def test_a_job_trains_its_run_alone_or_with_the_others_of_the_job(monkeypatch, tmp_path):
    trained, exported = [], []

    class Noting:
        def __init__(self, out):
            self.out = out

        def train(self, run):
            trained.append((self.out, run))

    monkeypatch.setattr("step_ahsar.compare.worker.Worker", Noting)
    monkeypatch.setattr(slurm.signal, "signal", lambda *_: None)

    class Together:
        def export(self, set_cuda_visible_devices):
            exported.append(set_cuda_visible_devices)

    monkeypatch.setattr("submitit.helpers.TorchDistributedEnvironment", Together)
    task = pickle.loads(pickle.dumps(slurm.Task(tmp_path, 1)))
    for tasks in (None, "1", "2"):
        if tasks:
            monkeypatch.setenv("SLURM_NTASKS", tasks)
        task(RUNS[0])
    assert trained == [(tmp_path, RUNS[0])] * 3
    assert exported == [False]


def test_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs Slurm's commands"):
        jobs(tmp_path).submit(RUNS)


def test_when_slurm_refuses(cluster, tmp_path):
    (cluster / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"Slurm has refused the jobs: .*invalid partition specified: x"):
        jobs(tmp_path).submit(RUNS)
    (cluster / "squeue").write_text("#!/bin/bash\necho 'slurm_load_jobs error: no controller' >&2\nexit 1\n")
    with pytest.raises(UserError, match="Slurm does not answer: slurm_load_jobs error: no controller"):
        jobs(tmp_path).submit(RUNS)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray(tmp_path):
    with pytest.raises(UserError, match="launcher 'ray' needs Ray: pip install"):
        LAUNCHERS["ray"].create(tmp_path, LaunchConfig(launcher="ray"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partition": "x"}, "launch.partition does not apply to launcher 'local'; it is for slurm"),
        ({"launcher": "ray", "time": 5}, "launch.time does not apply to launcher 'ray'; it is for slurm"),
        ({"memory": 4}, "launch.memory does not apply to launcher 'local'; it is for ray and slurm"),
        ({"launcher": "slurm", "retries": 1}, "launch.retries does not apply to launcher 'slurm'; it is for ray"),
    ],
)
def test_keys_of_other_launchers_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        check_launch(LaunchConfig(**given))


def test_keys_of_a_launcher_are_accepted():
    check_launch(LaunchConfig(launcher="slurm", gpus=1, memory=2, partition="x", time=3))
    check_launch(LaunchConfig(launcher="ray", gpus=1, memory=2, retries=0))


def test_every_key_is_of_a_launcher():
    keys = {key for kind in LAUNCHERS.values() for key in kind.keys}
    assert {*LaunchConfig.model_fields} == keys | {"launcher", "jobs", "threads"}
