"""Which ackd of a host are to be reported."""

from pathlib import Path

from ackd.ctl.status.units import enabled_names


def test_an_ackd_is_expected_if_systemd_is_to_start_it_at_boot(tmp_path: Path) -> None:
    for link in (
        "multi-user.target.wants/ackd.service",
        "multi-user.target.wants/ackd@north.service",
        "other.target.wants/ackd@a\\x2db.service",
        # Not an ackd.
        "timers.target.wants/ackd-metrics.timer",
        "multi-user.target.wants/ackd-status.service",
        "multi-user.target.wants/ackd@.service",
        "ackd@south.service.d/sealed.conf",
    ):
        path = tmp_path / link
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("/usr/lib/systemd/system/any")
    names = enabled_names(f"{tmp_path}/*.wants/ackd*.service")
    assert names == {"", "@north", "@a\\x2db"}
