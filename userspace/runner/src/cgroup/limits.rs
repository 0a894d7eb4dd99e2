use super::hierarchy::Controller;
use crate::Resources;

/// The period that processor time is given out by, in microseconds; the kernel's and Docker's default.
const PERIOD_US: u64 = 100_000;

/// A value that is to be written to a file of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// What the file belongs to.
    pub(crate) controller: Controller,
    /// Its name.
    pub(crate) file: &'static str,
    /// What is written.
    pub(crate) value: String,
}

fn setting(controller: Controller, file: &'static str, value: impl Into<String>) -> Setting {
    Setting {
        controller,
        file,
        value: value.into(),
    }
}

fn quota_us(nano_cpus: u64) -> u64 {
    nano_cpus.saturating_mul(PERIOD_US / 1000) / 1_000_000
}

/// What limits a group of version 1 so; in the order that the kernel takes it in.
pub(super) fn legacy(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(nano) = resources.nano_cpus {
        settings.push(setting(
            Controller::Cpu,
            "cpu.cfs_period_us",
            PERIOD_US.to_string(),
        ));
        settings.push(setting(
            Controller::Cpu,
            "cpu.cfs_quota_us",
            quota_us(nano).to_string(),
        ));
    }
    if let Some(bytes) = resources.memory_bytes {
        settings.push(setting(
            Controller::Memory,
            "memory.limit_in_bytes",
            bytes.to_string(),
        ));
        if let Some(swap) = resources.swap_bytes {
            let both = bytes.saturating_add(swap);
            settings.push(setting(
                Controller::Memory,
                "memory.memsw.limit_in_bytes",
                both.to_string(),
            ));
        }
    }
    if let Some(bytes) = resources.memory_reservation_bytes {
        settings.push(setting(
            Controller::Memory,
            "memory.soft_limit_in_bytes",
            bytes.to_string().clone(),
        ));
    }
    if let Some(pids) = resources.pids {
        settings.push(setting(Controller::Pids, "pids.max", pids.to_string()));
    }
    settings
}

/// What limits a group of version 2 so.
pub(super) fn unified(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(nano) = resources.nano_cpus {
        let value = format!("{} {PERIOD_US}", quota_us(nano));
        settings.push(setting(Controller::Cpu, "cpu.max", value));
    }
    if let Some(bytes) = resources.memory_bytes {
        settings.push(setting(Controller::Memory, "memory.max", bytes.to_string()));
    }
    if let Some(bytes) = resources.swap_bytes {
        settings.push(setting(Controller::Memory, "memory.swap.max", bytes.to_string()));
    }
    if let Some(bytes) = resources.memory_reservation_bytes {
        settings.push(setting(Controller::Memory, "memory.low", bytes.to_string()));
    }
    if let Some(pids) = resources.pids {
        settings.push(setting(Controller::Pids, "pids.max", pids.to_string()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings
            .iter()
            .map(|one| format!("{}={}", one.file, one.value))
            .collect()
    }

    const ALL: Resources = Resources {
        nano_cpus: Some(1_500_000_000),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: Some(16 << 20),
        pids: Some(100),
    };

    #[test]
    fn limits_become_the_files_of_each_version() {
        assert_eq!(
            lines(&legacy(&ALL)),
            [
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=83886080",
                "memory.soft_limit_in_bytes=33554432",
                "pids.max=100",
            ]
        );
        assert_eq!(
            lines(&unified(&ALL)),
            [
                "cpu.max=150000 100000",
                "memory.max=67108864",
                "memory.swap.max=16777216",
                "memory.low=33554432",
                "pids.max=100",
            ]
        );
    }

    #[test]
    fn what_is_not_limited_is_not_written() {
        assert_eq!(legacy(&Resources::default()), []);
        assert_eq!(unified(&Resources::default()), []);
    }

    #[test]
    fn a_share_of_a_processor_is_not_lost_to_rounding_or_overflow() {
        for (nano, quota) in [
            (10_000_000, 1000),
            (333_333_333, 33_333),
            (128_000_000_000, 12_800_000),
        ] {
            assert_eq!(quota_us(nano), quota);
        }
        assert!(quota_us(u64::MAX) > 0);
    }
}
