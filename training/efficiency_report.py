"""`make train-report`: the table, the two plots and the raw figures of `training/efficiency.py`."""

from __future__ import annotations

import json
import platform
import re
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.errors import SetupError
from app.settings import ROOT
from training.efficiency import LADDER, QUICK, Measurement, Setting, amp_dtype, measure_apart, prepare, speller_run
from training.evaluation.sections import write_section
from training.speller.train import build_model
from training.utilisation import cores

QUICK_EXAMPLES, CPU_EXAMPLES = 128, 8_192
GPU_EXAMPLES = 131_072  # with fewer, the fast settings end before NVML has averaged over a few of its own windows
BUSY = 0.05  # share of the cores: more other work than this and the figures say nothing
MEASURES = {
    "cpu": "Utilisation is the process's CPU time as a share of all cores; memory is its resident peak, libraries included.",
    "cuda": "Utilisation is what NVML says of the GPU, memory what PyTorch allocated on it.",
}
HEADINGS = {"cpu": "Training efficiency", "cuda": "Training efficiency on a GPU"}
AIM = """
The aim on a GPU is 12 times the examples a second and 89 % utilisation; where there is one, the same command measures both
into a section of its own.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured on."""

    device: str  # "cuda" or "cpu"
    name: str  # of the GPU, or of the CPU
    cpu: str
    cores: int
    torch: str
    amp: str  # the type that AMP computes in
    date: str

    @classmethod
    def here(cls) -> Machine:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        cpu = cpu_model()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
        amp = str(amp_dtype(device)).removeprefix("torch.")
        return cls(device.type, name, cpu, cores(), torch.__version__, amp, date.today().isoformat())

    @property
    def mark(self) -> str:
        """What file names have in addition where a GPU was measured: beside those of the CPU."""
        return "-gpu" if self.device == "cuda" else ""

    @property
    def words(self) -> str:
        return f"{self.name}, {'one GPU' if self.device == 'cuda' else f'{self.cores} CPU cores'}, PyTorch {self.torch}"


@dataclass(slots=True)
class Report:
    """All settings of one ladder; the first is the baseline."""

    machine: Machine
    catalogue: str
    config: str
    examples: int
    parameters: int
    measured: dict[Setting, Measurement] = field(default_factory=dict)
    failed: dict[Setting, str] = field(default_factory=dict)  # and why

    def ratio(self, setting: Setting) -> float:
        """Examples a second, in multiples of the baseline's."""
        baseline = next(iter(self.measured.values()))
        return self.measured[setting].examples_per_s / baseline.examples_per_s

    def raw(self) -> dict[str, object]:
        settings = [
            {"label": setting.label, **asdict(setting), **asdict(measurement),
             "examples_per_s": measurement.examples_per_s, "ratio": self.ratio(setting)}
            for setting, measurement in self.measured.items()
        ]  # fmt: skip
        failed = {setting.label: reason for setting, reason in self.failed.items()}
        head = {"catalogue": self.catalogue, "config": self.config, "examples": self.examples, "parameters": self.parameters}
        return {"machine": asdict(self.machine), **head, "settings": settings, "failed": failed}


def cpu_model() -> str:
    """The CPU's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def main(catalogue: Path, config: str, examples: int | None, quick: bool, root: Path, console: Console) -> None:
    """Measure the ladder and write `training/runs/efficiency.json`, `training/RESULTS.md` and the plots in `docs/` of `root`.

    On a GPU the section, the figures and the plots are others than a CPU's.

    Raises:
        InvalidInput: the catalogue has no usable row.
        SetupError: the baseline did not run.
    """
    machine = Machine.here()
    wanted = examples or (QUICK_EXAMPLES if quick else GPU_EXAMPLES if machine.device == "cuda" else CPU_EXAMPLES)
    parameters = build_model(speller_run(config)).num_parameters()
    report = Report(machine, catalogue.name, config, wanted, parameters)
    climb(report, QUICK if quick else LADDER, catalogue, console)
    runs, results, docs = root / "training" / "runs", root / "training" / "RESULTS.md", root / "docs"
    for folder in (runs, docs):
        folder.mkdir(parents=True, exist_ok=True)
    (runs / f"efficiency{machine.mark}.json").write_text(json.dumps(report.raw(), indent=1) + "\n", encoding="utf-8")
    heading = HEADINGS[machine.device]
    section = write_section(results, heading, "make train-report", body(report), "a process for each setting")
    console.print(section, markup=False, soft_wrap=True)
    plot_utilisation(report, docs / f"training-utilisation{machine.mark}.png")
    plot_time(report, docs / f"training-time{machine.mark}.png")


def climb(report: Report, ladder: tuple[Setting, ...], catalogue: Path, console: Console) -> None:
    """Measure each setting of `ladder` into `report`; one that fails is recorded with its reason, save the baseline."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Two refreshes a second: the bar must not take time from what it watches.
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console, refresh_per_second=2) as progress:
        task = progress.add_task("examples", total=len(ladder))
        data = Path(folder) / "rows.pt"
        torch.save(prepare(catalogue, speller_run(report.config), report.examples), data)
        for setting in ladder:
            progress.update(task, description=setting.label)
            try:
                report.measured[setting] = measure_apart(setting, report.config, data)
            except SetupError as exc:
                if setting == ladder[0]:
                    raise
                report.failed[setting] = str(exc)
            progress.advance(task)


def body(report: Report) -> str:
    """The section of RESULTS.md: what was measured on what, the table, the plots, what the figures do not say."""
    machine, gpu = report.machine, report.machine.device == "cuda"
    first, *_, last = report.measured.values()
    return f"""\
Measured on {machine.words}; AMP computes in {machine.amp}{", FP32 is full FP32 (TF32 off)" if gpu else ""}. {idleness(report)}

The speller of `--config {report.config}` ({report.parameters / 1e6:.1f} M parameters) trains once over the same
{report.examples:,} seeded examples of `{report.catalogue}`, in each setting from the same weights in a process of its own.
Data lies ready, and warm-up and compilation are over, before the clock starts.

{table(report)}

![Utilisation by setting](../docs/training-utilisation{machine.mark}.png)
![Time for the same examples by setting](../docs/training-time{machine.mark}.png)

{MEASURES[machine.device]}
The losses are no ranking: at one learning rate, the same examples make {first.steps:,} steps in the first row and
{last.steps:,} in the last.
{"" if gpu else AIM}"""


def table(report: Report) -> str:
    """One Markdown row for each setting measured, one sentence for each that did not run."""
    device = "GPU" if report.machine.device == "cuda" else "CPU"
    lines = [
        "| setting | examples a second | times the first | seconds for the same examples "
        f"| {device} utilisation | peak memory, MB | loss at the end | warm-up, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting, m in report.measured.items():
        lines.append(
            f"| {setting.label} | {m.examples_per_s:,.0f} | {report.ratio(setting):.2f} | {m.wall_s:.2f} "
            f"| {m.utilisation:.1%} | {m.peak_memory_mb:,.0f} | {m.loss:.3f} | {m.warm_up_s:.1f} |"
        )
    return "\n".join([*lines, *(f"\n{reason}" for reason in report.failed.values())])


def idleness(report: Report) -> str:
    """How much other work the machine had meanwhile; bold where it spoils the figures."""
    worst = max(m.others for m in report.measured.values())
    said = f"other processes kept up to {worst:.2f} cores busy during a run"
    if worst > BUSY * report.machine.cores:
        return f"**The machine was not idle: {said}; do not rely on these figures.**"
    return f"The machine was idle otherwise ({said})."


def palette() -> dict[str, str]:
    """The search page's light colours by name, from its own style sheet."""
    css = (ROOT / "app/page/style.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css.split("}")[0]))


def plot_utilisation(report: Report, path: Path) -> None:
    values = {setting: m.utilisation * 100 for setting, m in report.measured.items()}
    texts = [f"{value:.0f} %" for value in values.values()]
    device = "GPU" if report.machine.device == "cuda" else "CPU"
    bars(path, f"{device} utilisation while training", report, values, texts, whole=100.0)


def plot_time(report: Report, path: Path) -> None:
    values = {setting: m.wall_s for setting, m in report.measured.items()}
    texts = [f"{m.wall_s:.1f} s  ({report.ratio(setting):.1f}×)" for setting, m in report.measured.items()]
    bars(path, f"Time to train on the same {report.examples:,} examples", report, values, texts)


def bars(
    path: Path, title: str, report: Report, values: dict[Setting, float], texts: list[str], whole: float | None = None
) -> None:
    """One labelled bar a setting, AMP in the accent colour; `whole` draws how long a full bar would be."""
    colour = palette()
    with matplotlib.rc_context({"font.size": 11, "text.color": colour["ink"], "ytick.color": colour["ink"]}):
        height = 1.1 + 0.42 * len(values)  # inches
        figure = Figure(figsize=(8, height), facecolor=colour["surface"])
        axes = figure.add_axes((0.29, 0.1 / height, 0.69, 1 - 0.9 / height), facecolor=colour["surface"])
        rows = range(len(values))
        if whole:
            axes.barh(rows, whole, height=0.62, color=colour["sunken"])
        axes.barh(rows, list(values.values()), height=0.62, color=[colour["accent" if s.amp else "soft"] for s in values])
        for row, (value, text) in enumerate(zip(values.values(), texts, strict=True)):
            axes.annotate(text, (whole or value, row), xytext=(6, 0), textcoords="offset points", va="center")
        axes.set_yticks(rows, [setting.label for setting in values])
        axes.set_xlim(0, (whole or max(values.values())) * (1.12 if whole else 1.25))
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.xaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        machine = report.machine
        figure.text(0.02, 1 - 0.38 / height, title, fontsize=14, fontweight="bold")
        figure.text(0.02, 1 - 0.66 / height, f"{machine.words}, {machine.date}", fontsize=9, color=colour["soft"])
        figure.savefig(path, dpi=160)
