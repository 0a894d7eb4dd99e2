//! What a task has as `/etc/hosts`.

use essaim_objects::{ContainerSpec, Task};
use std::fmt::Write as _;

/// Docker's own lines.
const FIRST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Docker's lines, those of the spec, and the task's own addresses with its name.
pub(super) fn hosts(task: &Task, container: &ContainerSpec, hostname: &str) -> String {
    let mut text = FIRST.to_owned();
    for line in container.hosts.iter().flatten() {
        let mut words = line.split_whitespace();
        if let Some(address) = words.next() {
            let names: Vec<&str> = words.collect();
            // Nothing fails that writes to memory.
            let _ = writeln!(text, "{address}\t{}", names.join(" "));
        }
    }
    let attachments = task.networks_attachments.iter();
    for address in attachments.flat_map(|attachment| &attachment.addresses) {
        let _ = writeln!(text, "{}\t{hostname}", address.addr());
    }
    text
}
