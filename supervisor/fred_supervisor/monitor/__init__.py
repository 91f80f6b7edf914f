"""The monitor: a process beside the supervisor that sees what the machine does, may hang or die, and decides nothing.

The supervisor starts `python -m fred_supervisor.monitor`, writes to its standard input and reads one file.

Standard input, one JSON object a line. The first says what to watch::

    {"run_dir": "/…/fred_rgb", "run_id": "…", "name": "rgb",
     "period_s": 10,                        between two samples
     "quiet": ["mon-fri 08:00-19:00 Europe/Rome"],
     "cuda_visible_devices": "0" | null,    what the trainer is given
     "cuda_device_order": "PCI_BUS_ID" | null,
     "checkpoint_bytes": N | null}          else the size of the newest one

Then orders, any number, any combination of keys; what is not understood is passed over::

    {"event": "near"}          sample every second for a minute; probe an absent driver again at once
    {"trainer": PID | null}    whose tree is "ours"
    {"facts": {"images_per_s": …, "restarts": …, "beat_age_s": …}}    replace the last ones; for curves and metrics
    {"cuda_visible_devices": "GPU-…" | null}    the next trainer is given other GPUs
    {"release": true | false}  close NVML (an open one blocks a GPU reset), or open it again

The end of input ends the monitor (exit 0; 78 for a bad first line), and so does SIGTERM.

`supervisor/monitor.json`, replaced with every sample. A reader first compares `boot`, then `mono_s` with its own
CLOCK_MONOTONIC: older than three `period_s` and 5 s means that the monitor hangs or is dead, and that all of it is
unknown. Null is "not known", with a text under the same key in `unknown`; it is never zero::

    {"format": 1, "time": RFC 3339, "mono_s": 4021.5, "boot": "…", "pid": 4711, "run_id": "…", "period_s": 10.0,
     "sample_mono_s": 4021.4,                          of the GPU values
     "nvml": {"state": "ok" | "starting" | "no driver" | "no GPU" | "mismatch" | "hung" | "wedged" | "died" | "error"
                       | "no bindings" | "released",
              "text": sentence, "took_s": 0.004 | null, "stuck": 0},
     "driver": "580.95.05" | null,
     "chosen": {"uuids": ["GPU-…"] | null, "text": sentence},     CUDA_VISIBLE_DEVICES resolved, once
     "gpus": [{"uuid", "index", "name", "bus_id", "mig": number | null, "parent": uuid | null, "chosen": bool,
               "used_mib", "free_mib", "total_mib", "memory_version": 2 | 1 (1 counts the driver's reserve as used),
               "unified": bool (host memory stands in),
               "trainer_mib", "trainer_estimated": bool (growth since no trainer ran),
               "trainer_full_in_s": seconds until the trainer's share will have filled the GPU | null,
               "temperature_c", "power_w", "utilization" (percent), "throttle": ["power cap", …],
               "ecc_uncorrected", "remap_pending": bool, "recovery_action": word, "recovery_number": N,
               "health": "ok" | sentence, "remedy": "none" | "relaunch" | "look" | "reset" | "reboot",
               "hold": bool (a launch makes no sense), "command": what to run | null,
               "processes": [{"pid", "user", "command", "mib", "ours": bool | null (not visible, or gone)}] | null,
               "xids": [{"code", "at", "age_s", "wall_s", "text", "remedy", "sources": ["driver", "kernel log"]}],
               "unknown": {key: text}}],
     "xids": [as above, of a GPU that is not known],
     "kernel_log": "ok" | sentence,
     "host": {"memory_total_mib", "memory_available_mib", "swap_total_mib", "swap_used_mib", "cgroup_memory_mib",
              "cgroup_limit_mib", "cgroup_oom_kills", "cgroup_pressure" (percent of 10 s), "shm_free_mib",
              "trainer_rss_mib", "trainer_processes": [{"pid", "name", "rss_mib", "open_files"}],
              "open_files" (most in one process), "open_files_limit",
              "disk_free_mib", "disk_forecast_h" (until the next checkpoint no longer fits), "disk_fits_checkpoint",
              "checkpoint_mib", "unknown": {key: text}},
     "checkpoints": {"count", "mib", "newest_bytes", "newest_age_s", "oldest_age_s"} | null,
     "quiet": {"now": bool, "until": RFC 3339 | null (never), "window": text | null, "text": sentence},
     "jobs": {name: {"age_s", "error": text | null}},
     "clock": {"steps", "last_step_s", "stopped_s", "suspended_s"},
     "trouble": [sentence]}                            files that cannot be written

Beside it: `monitor_ring.jsonl` (`ring.read_ring`), `events.out.tfevents.*` (TensorBoard), `fred_supervise.prom`
(Prometheus; removed when the monitor leaves, because a collector would show its last values for ever), and one line
`daily summary` in the journal.

Of use outside, and without this process: `quiet.parse_window` and `quiet.quiet_at`, `ring.read_ring`.
"""
