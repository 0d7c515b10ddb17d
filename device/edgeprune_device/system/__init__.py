"""The computer a recorder runs on.

Board and processor facts, the clock, the systemd unit and its notifications, the watchdog for a
hung model, file-system helpers and child processes.
"""
