"""What makes a table of README.md, docs/ or a model card of a benchmark's result: one function a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from table_format import cells as _cells
from table_format import rates as _rates
from table_format import source as _source
from table_format import table as _table

_NAMES = {"wrist": "the wrist camera", "front": "the front camera", "state": "the joint state", "instruction": "words"}
_DAMAGE = ("committed_lost", "duplicated", "unreadable", "between_commits", "not_resumed")


def closed_loop(result: Mapping[str, Any]) -> str:
    rows = [
        ("training combinations, unseen layouts", result["training_combinations"]),
        ("word and object combinations never demonstrated", result["held_out_combinations"]),
        ("told another task of the scene, judged by the original one (low is good)", result["shuffled_instructions"]),
        ("all inputs, on the layouts of the rows below", result["missing_nothing"]),
        *((f"without {_NAMES[name]}", rate) for name, rate in result["missing"].items()),
    ]
    return _rates("closed loop, MuJoCo tabletop", rows) + _source(result)


def skills(result: Mapping[str, Any]) -> str:
    held_out = result["per_skill_held_out"]
    rows = [(skill, *_cells(rate), *_cells(held_out[skill])) for skill, rate in result["per_skill"].items()]
    header = ("skill", "training combinations", "95% interval", "n", "held-out combinations", "95% interval", "n")
    return _table(header, rows) + _source(result)


def tasks(result: Mapping[str, Any]) -> str:
    return _rates("task", list(result["per_task"].items())) + _source(result)


def chunk_execution(result: Mapping[str, Any]) -> str:
    rows = []
    for name, kept in result["of_zero_delay_success"].items():
        for delay_ms, cell in result[name].items():
            jumps = (f"{cell['seam_jump_rad_p99']:.3f} rad", f"{cell['seam_jump_rad_s_p99']:.2f} rad/s")
            way = name.replace("_", " ")
            rows.append((way, f"{delay_ms} ms", *_cells(cell["success"]), f"{kept[delay_ms]:.0%}", *jumps))
    header = (
        "execution",
        "added delay",
        "success",
        "95% interval",
        "n",
        "of that without delay",
        "seam jump p99",
        "p99",
    )
    return _table(header, rows) + _source(result)


def latency(result: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{result[key]['p50_ms']:.1f} ms", f"{result[key]['p99_ms']:.1f} ms", str(result[key]["n"]))
        for key, name in (
            ("policy", "observation to chunk, the policy alone"),
            ("image_to_chunk", "camera image published to chunk received, ROS 2"),
        )
    ]
    return _table(("latency", "p50", "p99", "n"), rows) + _source(result)


def throughput(result: Mapping[str, Any]) -> str:
    rows = [
        (name, *(f"{result[key][count]:,.0f} {unit}" for count in ("1", "2")))
        for key, name, unit in (
            ("collect_frames_per_s", "collecting demonstrations", "frames/s"),
            ("train_samples_per_s", "training (torch threads)", "samples/s"),
            ("eval_steps_per_s", "evaluating in closed loop", "steps/s"),
        )
    ]
    return _table(("throughput", "1 process", "2 processes"), rows) + _source(result)


def data_quality(result: Mapping[str, Any]) -> str:
    rows = [(name, f"`{found['check']}`", *_cells(found)) for name, found in result["found"].items()]
    clean = result["clean_with_errors"]
    rows.append(("none: demonstrations as they are", "any error", *_cells(clean)))
    return _table(("damage", "check", "found", "95% interval", "episodes"), rows) + _source(result)


def loader(result: Mapping[str, Any]) -> str:
    pool = result["pool"]
    names = {
        "ram": "ours, in RAM",
        "pool": f"ours, pool ({pool['resident_mb']:,.0f} MB resident, budget {pool['budget_mb']:,.0f} MB)",
        "memmap": "`np.memmap`, uncompressed",
        "h5py": "h5py, uncompressed",
        "zarr_python": "zarr-python's indexing on our files",
        "lerobot": "LeRobot's way: a video per episode, PyAV, in worker processes",
    }
    rows = [("memcpy of a batch's images", f"{result['memcpy_samples_per_s']:,.0f}", "", "")]
    for key, name in names.items():
        figures = result[key]
        cells = (f"{figures['samples_per_s']:,.0f}", f"{figures['of_memcpy']:.1%}", f"{figures['mb_on_disk']:,.0f}")
        rows.append((name, *cells))
    return _table(("2 cameras x 2 frames of 128 px", "samples/s", "of memcpy", "MB on disk"), rows) + _source(result)


def heads(result: Mapping[str, Any]) -> str:
    rows = []
    for name, policy in ((name, found) for name, found in result.items() if isinstance(found, dict)):
        for decoding, figures in policy["decodings"].items():
            decoded = "" if decoding == "one" else f", {decoding}"
            success, combinations = _cells(policy["success"])[:2], _cells(policy["held_out_combinations"])[:2]
            if decoding != next(iter(policy["decodings"])):  # success was measured with the default, the first
                success, combinations = ("", ""), ("", "")
            times = figures["latency"]
            cells = (
                f"{1e3 * figures['action_error_rad']:.1f}",
                f"{times['p50_ms']:.1f} ms",
                f"{times['p99_ms']:.1f} ms",
            )
            training = (f"{policy['steps']:,}", str(policy.get("tokens_per_chunk", "")))
            rows.append((name + decoded, *success, *combinations, *cells, *training))
    interval = "95% interval"
    header = ("head", "success", interval, "held-out combinations", interval, "action error, mrad", "p50", "p99")
    return _table((*header, "steps", "tokens a chunk"), rows) + _source(result)


def store_formats(result: Mapping[str, Any]) -> str:
    jpeg = result["jpeg"]
    names = {
        "vla_zarr_lz4": "vla-zarr, lz4",
        "vla_zarr_raw": "vla-zarr, raw",
        "vla_zarr_jpeg": f"vla-zarr, JPEG ({jpeg['psnr_db']:.1f} dB PSNR, at most {jpeg['largest_error']} levels off)",
        "zarr_python_lz4": "zarr-python, lz4, the same chunks and shards",
        "h5py": "h5py, uncompressed",
        "one_file": "the same arrays in one plain file",
    }
    rows = []
    for key, name in names.items():
        figures = result["formats"][key]
        cells = (f"{figures['write_mb_per_s']:,.0f}", f"{figures['mb_on_disk']:,.0f}", f"{figures['of_decoded']:.0%}")
        rows.append((name, *cells))
    header = (f"{result['decoded_mb']:,.0f} MB of demonstrations", "written, MB/s", "MB on disk", "of decoded")
    return _table(header, rows) + _source(result)


def store_open(result: Mapping[str, Any]) -> str:
    rows = [
        (f"{row['episodes']:,}", f"{row['segments']:,}", f"{row['manifest_mb']:.1f}", *_seconds(row["open_s"]))
        for row in result["open"]
    ]
    header = ("episodes", "segments", "manifest, MB", "opened in, s (median)", "s (slowest)", "n")
    return _table(header, rows) + _source(result)


def _seconds(times: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{times['p50']:.2f}", f"{times['max']:.2f}", str(times["n"])


def store_crash(result: Mapping[str, Any]) -> str:
    stages = ("write", "sync", "manifest", "commit", "clean")
    rows = []
    for name, killed in result["kills_by_stage"].items():
        lost = result["power_losses"][name]
        found = lost["found_in_controls"]
        damage = sum(lost[kind] for kind in _DAMAGE)
        cells = (f"{lost['states']:,}", str(damage), f"{sum(found.values()):,}")
        rows.append((name, *(str(killed.get(stage, "")) for stage in stages), *cells))
    header = ("", *(f"killed in {stage}" for stage in stages), "power losses", "damaged", "found without fsyncs")
    total = ", ".join(f"{kind.replace('_', ' ')} {result[kind]}" for kind in _DAMAGE)
    return f"{result['kills']} kills: {total}.\n\n" + _table(header, rows) + _source(result)


def faults(result: Mapping[str, Any]) -> str:
    rows = [
        (
            name.replace("_", " "),
            *(str(row[key]) for key in ("injected", "held_in_time")),
            f"{row['hold_limit_s']:.1f} s",
            *(str(row[key]) for key in ("unsafe_commands", "recovered")),
            f"{row['held_s']['p50']:.1f} s, {row['held_s']['max']:.1f} s",
            f"{row['recovered_s']['p50']:.1f} s, {row['recovered_s']['max']:.1f} s",
        )
        for name, row in result.items()
        if isinstance(row, Mapping) and "injected" in row
    ]
    header = (
        "fault",
        "injected",
        "held in time",
        "limit",
        "unsafe",
        "recovered",
        "last motion: median, max",
        "moves: median, max",
    )
    return _table(header, rows) + _source(result)


def ros_load(result: Mapping[str, Any]) -> str:
    sent, received = result["images_sent"], result["images_received"]
    rows = [
        (f"pictures sent in {result['seconds'] / 60:g} minutes, not received", f"{sent:,}, {sent - received:,}"),
        ("commands due at 50 Hz, within 10 ms of their tick", f"{result['commands_expected']:,}, "
         f"{result['commands_on_time']:,}"),
        ("resident memory grew by", f"{result['rss_growth_mb']:.1f} MB"),
        *(
            (name, f"{result[key]['p50_ms']:.1f} ms, {result[key]['p99_ms']:.1f} ms")
            for key, name in (
                ("stamp_to_chunk", "camera's stamp to chunk, p50 and p99"),
                ("bare_subscriber", "bare subscriber, p50 and p99"),
                ("overhead", "overhead, p50 and p99"),
            )
        ),
        ("forward pass, p50", f"{result['forward_pass_p50_ms']:.1f} ms"),
    ]  # fmt: skip
    return _table(("under load", ""), rows) + _source(result)


def zero_shot(result: Mapping[str, Any]) -> str:
    rows = [(f"by {prompts}", *_cells(rate)) for prompts, rate in result["all_classes_trained"].items()]
    probe, held_out = result["linear_probe"], result["held_out"]
    rows.append(("linear probe on the picture vectors", f"{probe['rate']:.1%}", "", str(probe["n"])))
    without = f"trained without {' and '.join(held_out['classes'])}: pictures of"
    rows.append((f"{without} the other classes", *_cells(held_out["pictures_of_trained_classes"])))
    rows.append((f"{without} these", *_cells(held_out["pictures_of_held_out_classes"])))
    return _table(("Fashion-MNIST, all ten names", "right", "95% interval", "pictures"), rows) + _source(result)


def pretraining(result: Mapping[str, Any]) -> str:
    names = {
        "clip": "`clip`",
        "clip_shuffled": f"`clip`, {result['shuffled_share']:.0%} of the texts exchanged",
        "align": "`align`",
        "align_shuffled": f"`align`, {result['shuffled_share']:.0%} of the texts exchanged",
        "masked": "`masked`",
    }
    rows = []
    for key, name in names.items():
        found = result[key]
        recalls = [f"{found[way][f'recall@{k}']:.1%}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
        rows.append(
            (name, *recalls, f"{found['zero_shot']['without_name']:.1%}", f"{found['linear_probe']['accuracy']:.1%}")
        )
    ways = [result["clip"][way] for way in ("image_to_text", "text_to_image")]
    majority = f"{result['clip']['zero_shot']['majority']:.1%}"
    for key, name in (("chance@10", "chance"), ("text_only@10", "mean training text as every query")):
        cells = [cell for way in ways for cell in ("", "", f"{way[key]:.1%}")]
        rows.append((name, *cells, *((majority, majority) if key == "chance@10" else ("", ""))))
    header = ("objective", "I->T @1", "@5", "@10", "T->I @1", "@5", "@10", "zero-shot", "linear probe")
    return _table(header, rows) + _source(result)


def missing(result: Mapping[str, Any]) -> str:
    names = {"both": "drawing and name", "without_name": "drawing alone", "without_image": "name alone"}
    missing, zero_shot = result["clip"]["missing"], result["clip"]["zero_shot"]
    rows = [
        (name, *(f"{missing[key][f'recall@{k}']:.1%}" for k in (1, 5, 10)), f"{zero_shot[key]:.1%}")
        for key, name in names.items()
    ]
    rows.append(("chance", "", "", f"{missing['chance@10']:.1%}", f"{zero_shot['majority']:.1%}"))
    return _table(("an item has", "by keyword @1", "@5", "@10", "zero-shot"), rows) + _source(result)


def frames(result: Mapping[str, Any]) -> str:
    rows = []
    for group, title in (("training_facts", "facts of training"), ("held_out_facts", "held-out facts")):
        for relation, found in result[group].items():
            figures = [f"{found[key]:.1%}" for key in ("precision@10", "chance@10")]
            rows.append((title, relation, *figures, str(found["n"])))
    return _table(("queries", "relation", "precision@10", "chance", "n"), rows) + _source(result)
