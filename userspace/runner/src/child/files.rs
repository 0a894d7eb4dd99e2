//! Secrets and configs: on a tmpfs, which is never swapped out where the kernel can keep it so (Linux 6.4).

use super::SetupError;
use super::proc::give;
use super::root::{Kind, Places, tmpfs};
use crate::sys::{DetachedMount, set_mount_at};
use crate::{FileKind, TaskFile};
use nix::mount::{MntFlags, MsFlags, umount2};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Where secrets are; as in Swarm.
const SECRETS: &str = "/run/secrets";
/// Bytes of each file's last page, inode and directories, at most.
const OVERHEAD: usize = 16 << 10;

/// Puts the files in their places.
pub(super) fn place(mut places: Places, files: &[TaskFile]) -> Result<(), SetupError> {
    if files.is_empty() {
        return Ok(());
    }
    let secrets = Path::new(SECRETS);
    places.make(secrets, Kind::Directory)?;
    let bytes = files
        .iter()
        .map(|file| file.contents.bytes().unwrap_or_default().len() + OVERHEAD);
    let options = format!("mode=755,size={}", bytes.sum::<usize>() + OVERHEAD);
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    tmpfs(secrets, flags, &format!("{options},noswap")).or_else(|_| tmpfs(secrets, flags, &options))?;
    places.add_own(secrets)?;
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let mut holds_secrets = false;
    for file in files {
        if file.kind == FileKind::Secret && file.target.is_relative() {
            holds_secrets = true;
            let path = secrets.join(&file.target);
            places.make(path.parent().unwrap_or(secrets), Kind::Directory)?;
            write(&path, file)?;
            continue;
        }
        // Written here, shown there, and gone from here.
        let target = Path::new("/").join(&file.target);
        let failed = || format!("mount {}", target.display());
        places.make(&target, Kind::File)?;
        let path = secrets.join(".placed");
        write(&path, file)?;
        let mount = DetachedMount::bind(&path, false).map_err(SetupError::io(failed()))?;
        mount
            .set(attributes, 0, false)
            .map_err(SetupError::io(failed()))?;
        mount.attach(&target).map_err(SetupError::io(failed()))?;
        fs::remove_file(&path).map_err(SetupError::io(failed()))?;
    }
    if holds_secrets {
        set_mount_at(secrets, attributes, 0, false).map_err(SetupError::io("close /run/secrets"))
    } else {
        // The files keep what it holds.
        umount2(secrets, MntFlags::MNT_DETACH).map_err(SetupError::io("unmount /run/secrets"))
    }
}

fn write(path: &Path, file: &TaskFile) -> Result<(), SetupError> {
    let failed = || format!("write {}", path.display());
    let mut open = fs::OpenOptions::new();
    let open = open.write(true).create_new(true).mode(0o600).open(path);
    let mut open = open.map_err(SetupError::io(failed()))?;
    open.write_all(file.contents.bytes().unwrap_or_default())
        .map_err(SetupError::io(failed()))?;
    give(path, file.uid, file.gid, file.mode)
}
