"""The monitor: a process beside the supervisor that measures GPUs and host. It decides nothing, and may hang or die.

The supervisor starts `python -m fred_supervisor.monitor`, writes to its standard input and reads one file.

Standard input holds one JSON object per line. The first says what to watch::

    {"run_dir": "/…/fred_rgb", "run_id": "…", "name": "rgb",
     "period_s": 10,                        from one sample to the next
     "quiet": ["mon-fri 08:00-19:00 Europe/Rome"],
     "cuda_visible_devices": "0" | null,    of the trainer
     "cuda_device_order": "PCI_BUS_ID" | null,
     "checkpoint_bytes": N | null,          of the next checkpoint; null: as the newest one
     "curves": ["**/results.csv", …],       files in which the trainer tells of its learning
     "data": path | null}                   of its data set

Commands follow; a command may have several keys, and unknown keys are ignored::

    {"event": "near"}          sample every second for a minute; try an absent driver again at once
    {"trainer": PID | null}    the trainer; its tree is "ours"
    {"facts": {"images_per_s": …, "restarts": …, "beat_age_s": …}}    replace the former ones; for curves and metrics
    {"cuda_visible_devices": "GPU-…" | null}    of the next trainer
    {"release": true | false}  close NVML (an open one blocks a GPU reset), or open it again

The monitor exits at the end of its input and after SIGTERM (exit code 0; 78 for a bad first line).

Every sample replaces `supervisor/monitor.json`. A reader compares `boot`, then `mono_s` with its own CLOCK_MONOTONIC:
when the file is older than three `period_s` and 5 s, the monitor hangs or is dead, and every value is unknown. Null
means "not known", never zero; `unknown` has the reason under the same key::

    {"format": 1, "time": RFC 3339, "mono_s": 4021.5, "boot": "…", "pid": 4711, "run_id": "…", "period_s": 10.0,
     "sample_mono_s": 4021.4,                          of the GPU values
     "nvml": {"state": "ok" | "starting" | "no driver" | "no GPU" | "mismatch" | "hung" | "wedged" | "died" | "error"
                       | "no bindings" | "released",
              "text": sentence, "facts": {"topic", …}, "took_s": 0.004 | null, "stuck": 0},
     "driver": "580.95.05" | null,
     "chosen": {"uuids": ["GPU-…"] | null, "text": sentence},     CUDA_VISIBLE_DEVICES resolved, once
     "gpus": [{"uuid", "index", "name", "bus_id", "mig": number | null, "parent": uuid | null, "chosen": bool,
               "used_mib", "free_mib", "total_mib", "memory_version": 2 | 1 (1 counts the driver's reserve as used),
               "unified": bool (host memory stands in),
               "trainer_mib", "trainer_estimated": bool (growth since no trainer ran),
               "trainer_full_in_s": seconds until the trainer's share will have filled the GPU | null,
               "temperature_c", "power_w", "utilization" (percent), "clock_mhz", "clock_max_mhz" (of the SMs),
               "pcie_lanes", "pcie_lanes_max", "throttle": ["power cap", …],
               "ecc_uncorrected", "remap_pending": bool, "recovery_action": word, "recovery_number": N,
               "health": "ok" | sentence, "health_facts": {"topic", …} | null,
               "remedy": "none" | "relaunch" | "look" | "reset" | "reboot",
               "hold": bool (a launch makes no sense), "command": what to run | null,
               "processes": [{"pid", "user", "command", "mib", "ours": bool | null (not visible, or gone)}] | null,
               "xids": [{"code", "at", "age_s", "wall_s", "text", "remedy", "sources": ["driver", "kernel log"]}],
               "unknown": {key: text}}],
     "xids": [as above, of a GPU that is not known],
     "kernel_log": "ok" | sentence,
     "host": {"memory_total_mib", "memory_available_mib", "swap_total_mib", "swap_used_mib", "cgroup_memory_mib",
              "cgroup_limit_mib", "cgroup_oom_kills", "cgroup_pressure" (percent of 10 s), "shm_free_mib",
              "cgroup_room_mib" (until a limit of the trainer's cgroup, or of one above it, is reached),
              "trainer_rss_mib", "trainer_mib" (its share of what cannot be read again from a file),
              "trainer_processes": [{"pid", "name", "rss_mib", "mib", "open_files"}],
              "core_wait" (share of the time in which a process of the trainer was ready to run, and had no core),
              "quota_cores", "quota_share" (of the time in which it was held back),
              "swap_in_mib_s", "io_pressure" (share of a minute),
              "other_processes": [{"pid", "user", "command", "cores"}],
              "open_files" (most in one process), "open_files_limit",
              "disk_free_mib", "disk_forecast_h" (until the next checkpoint no longer fits), "disk_fits_checkpoint",
              "checkpoint_mib", "data_fs" (the file system of the data, "nfs4 at /data"), "unknown": {key: text}},
     "checkpoints": {"count", "mib", "newest_bytes", "newest_age_s", "oldest_age_s"} | null,
     "learning": {"seq": N, "points": [{"seq", "epoch", "loss", "metric", "lr", "gradient"}]} | null (not read),
     "quiet": {"now": bool, "until": RFC 3339 | null (never), "window": text | null, "text": sentence},
     "jobs": {name: {"age_s", "error": text | null}},
     "clock": {"steps", "last_step_s", "stopped_s", "suspended_s"},
     "sleep": {"held": [word], "refused": [word], "why": text | null, "of": [word]} | null (no trainer runs),
     "trouble": [sentence]}                            files that cannot be written

It also writes `monitor_ring.jsonl` (read by `store.monitor_ring.read_ring`), `events.out.tfevents.*` (TensorBoard),
one line `daily summary` a day in the journal, and, with `--prometheus-dir`, `fred_<name>.prom` (at its end only how the
run ended stays in it: a collector would show the last values for ever).

`quiet.parse_window` and `quiet.quiet_at` are also used outside this process.
"""

from typing import Final

NO_BINDINGS: Final = -1
"""In place of an NVML error: the Python module `pynvml` is missing, or is not NVIDIA's."""
