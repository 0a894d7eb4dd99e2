//! What is in the containers of a lab: busybox, under all its names.

use crate::run::run_here;
use anyhow::Context as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Of Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// Makes the root of a container.
///
/// # Errors
/// When there is no busybox, or it cannot be written.
pub(crate) fn root(root: &Path) -> anyhow::Result<()> {
    let programs = root.join("bin");
    for folder in [&programs, &root.join("tmp")] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    fs::copy(BUSYBOX, programs.join("busybox"))
        .with_context(|| format!("failed to copy {BUSYBOX} (package busybox-static)"))?;
    let applets = run_here(&[BUSYBOX, "--list"])?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", programs.join(applet)).context("failed to name an applet")?;
    }
    Ok(())
}
