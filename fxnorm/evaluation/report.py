"""The report that people read: one page with the winners, the table of every song, pictures and players."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from fxnorm.files import whole_file

SongMetrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""song -> system -> metric -> value"""

TITLES = {
    "stereo_loss_b": "stereo loss b",
    "stereo_loss_a": "stereo loss a",
    "loudness_mape": "loudness error",
    "spectral_mape": "spectral error",
    "panning_mape": "panning error",
    "dynamic_mape": "dynamic error",
}
_DECISIVE = "stereo_loss_b"
SYSTEM_TITLES = {
    "reference": "reference mix",
    "input_sum": "sum of the input stems",
    "normalized_sum": "sum of the normalized stems",
    "crafx2": "CRAFx2",
    "wave_u_net": "Wave-U-Net",
}


def write(
    path: Path,
    songs: Mapping[str, SongMetrics],
    means: Mapping[str, Mapping[str, Mapping[str, float]]],
    facts: Mapping[str, Any],
) -> None:
    """Write the page; it refers to ``mixes/SPLIT/SONG/SYSTEM.flac`` and ``plots/SPLIT/SONG/*.png`` beside it.

    Args:
        path: the ``.html`` file.
        songs: the metrics by split, song, system and name; lower is better in all of them.
        means: their means over songs, by split, system and name.
        facts: what was run, as it should stand at the page's end.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fxnorm.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )

    def players(split: str, song: str) -> list[str]:
        folder = path.parent / "mixes" / split / song
        return [name for name in ("reference", *songs[split][song]) if (folder / f"{name}.flac").is_file()]

    page = environment.get_template("report.html").render(
        songs=songs,
        means=means,
        facts=facts,
        titles=TITLES,
        system_titles=SYSTEM_TITLES,
        verdict=verdict,
        rivals=rivals,
        players=players,
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def rivals(systems: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The systems that can win: not the sum of wet stems, which is the reference itself."""
    return {name: metrics for name, metrics in systems.items() if metrics.get(_DECISIVE) != 0}


def markdown(means: Mapping[str, Mapping[str, Mapping[str, float]]], verdicts: Sequence[str]) -> str:
    """The verdicts and a table of each split in Markdown, the best value of each metric in bold."""
    lines = [f"- {text}" for text in verdicts]
    for split, systems in means.items():
        metrics = [metric for metric in TITLES if any(metric in found for found in systems.values())]
        lines += ["", f"## {split}", "", "| system | " + " | ".join(TITLES[metric] for metric in metrics) + " |"]
        lines.append("| --- |" + " --- |" * len(metrics))
        best = {metric: min(found[metric] for found in systems.values() if metric in found) for metric in metrics}
        for system, found in systems.items():
            cells = [f"{found[metric]:.3f}" if metric in found else "" for metric in metrics]
            bold = [
                f"**{cell}**" if cell and found[metric] == best[metric] else cell
                for metric, cell in zip(metrics, cells, strict=True)
            ]
            lines.append(f"| {SYSTEM_TITLES.get(system, system)} | " + " | ".join(bold) + " |")
    return "\n".join(lines) + "\n"


def verdict(split: str, means: Mapping[str, Mapping[str, float]], songs: SongMetrics) -> str:
    """One sentence: whether the network beats the sum of the normalized stems, with the numbers."""
    metric = _DECISIVE
    networks = [system for system in means if system not in ("input_sum", "normalized_sum")]
    if not networks or metric not in means.get("normalized_sum", {}):
        return f"{split}: there is nothing to compare."
    system = networks[0]
    value, baseline = means[system][metric], means["normalized_sum"][metric]
    change = f"{TITLES[metric]} {value:.3f} against {baseline:.3f} ({100 * (value / baseline - 1):+.1f} %)"
    compared = [found for found in songs.values() if metric in found[system]]
    better = sum(found[system][metric] < found["normalized_sum"][metric] for found in compared)
    word = "is better than" if value < baseline else "is NOT better than"
    name = SYSTEM_TITLES.get(system, system)
    return (
        f"{split}: {name} {word} the sum of the normalized stems at the reference's loudness: {change},"
        f" better on {better} of {len(compared)} songs."
    )
