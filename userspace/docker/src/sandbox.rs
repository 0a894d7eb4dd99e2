//! The image of sandboxes: one static program of some hundred bytes that waits until it is killed.

use crate::plan::SANDBOX_PROGRAM;

/// Where the program is loaded.
const ADDRESS: u64 = 0x40_0000;
/// Bytes of the ELF header and the one program header.
const HEADERS: u16 = 64 + 56;

/// A kind of processor that sandboxes are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    fn own() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `e_machine` of elf(5).
    fn number(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }

    /// Waits for a signal, again and again.
    fn code(self) -> Vec<u8> {
        match self {
            // again: mov $34, %eax (pause); syscall; jmp again
            Self::X86_64 => vec![0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7],
            // again: mov x0..x4, #0; mov x8, #73 (ppoll of nothing); svc #0; b again
            Self::Aarch64 => [
                0xd280_0000_u32,
                0xd280_0001,
                0xd280_0002,
                0xd280_0003,
                0xd280_0004,
                0xd280_0928,
                0xd400_0001,
                0x17ff_fff9,
            ]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect(),
        }
    }

    /// The program's file.
    fn program(self) -> Vec<u8> {
        let code = self.code();
        let length = u64::from(HEADERS) + code.len() as u64;
        let mut file = Vec::new();
        // 64 bits, little endian, version 1, of System V.
        file.extend(*b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00");
        file.extend(2_u16.to_le_bytes()); // executable
        file.extend(self.number().to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend((ADDRESS + u64::from(HEADERS)).to_le_bytes()); // where it begins
        file.extend(64_u64.to_le_bytes()); // the program header
        file.extend(0_u64.to_le_bytes()); // no sections
        file.extend(0_u32.to_le_bytes());
        for size in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(size.to_le_bytes());
        }
        file.extend(1_u32.to_le_bytes()); // loaded …
        file.extend(5_u32.to_le_bytes()); // … to be read and run
        for value in [0, ADDRESS, ADDRESS, length, length, 0x1000] {
            file.extend(value.to_le_bytes());
        }
        file.extend(code);
        file
    }
}

/// The root file system of a sandbox as a tar archive; `None` on a kind of machine that none is known for.
pub(crate) fn archive() -> Option<Vec<u8>> {
    let program = Machine::own()?.program();
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    let name = SANDBOX_PROGRAM.trim_start_matches('/');
    // Nothing fails that is written to memory, under a name that is short.
    archive.append_data(&mut header, name, program.as_slice()).ok()?;
    archive.into_inner().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    #[test]
    fn the_program_waits_until_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pause");
        let mut archive = tar::Archive::new(std::io::Cursor::new(archive().unwrap()));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("pause"));
        assert_eq!(entry.header().mode().unwrap(), 0o755);
        let mut program = Vec::new();
        entry.read_to_end(&mut program).unwrap();
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let image = path.canonicalize().unwrap();
        let link = format!("/proc/{}/exe", child.id());
        while !(std::fs::read_link(&link).is_ok_and(|exe| exe == image) && state(child.id()) == Some('S')) {
            assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
            assert!(
                Instant::now() < deadline,
                "it does not wait: {:?}",
                state(child.id())
            );
            std::thread::yield_now();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn both_programs_are_whole() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let program = machine.program();
            let at = |from: usize, to: usize| program.get(from..to).unwrap();
            assert_eq!(at(18, 20), machine.number().to_le_bytes());
            // Its length stands in the header, and it begins right behind it.
            assert_eq!(at(64 + 32, 64 + 40), (program.len() as u64).to_le_bytes());
            assert_eq!(at(24, 32), (ADDRESS + 120).to_le_bytes());
            assert_eq!(at(120, program.len()), machine.code());
        }
        // A jump of -7 instructions from the last one of the eight leads to the first.
        let code = Machine::Aarch64.code();
        assert_eq!(code.get(28..), Some(0x17ff_fff9_u32.to_le_bytes().as_slice()));
    }
}
