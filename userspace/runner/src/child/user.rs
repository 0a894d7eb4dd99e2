//! Who a task runs as.

use super::SetupError;
use nix::unistd::{Gid, Uid};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A user as the kernel and the command's environment need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    pub(super) home: PathBuf,
}

/// Finds a user, as Docker does: in the files of the task's own root, not through the node's name services.
pub(super) fn find(user: &str, groups: &[String]) -> Result<User, SetupError> {
    let read = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(SetupError::io(format_args!("read {path}"))),
    };
    find_in(user, groups, &read("/etc/passwd")?, &read("/etc/group")?).map_err(SetupError::new)
}

fn find_in(user: &str, more: &[String], passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let mut found = User {
        uid: number.unwrap_or_default(),
        gid: 0,
        groups: Vec::new(),
        home: PathBuf::from("/"),
    };
    let mut known = None;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [entry, _, uid, gid, _, home, ..] = fields.as_slice()
            && let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>())
            && (*entry == name || number == Some(uid))
        {
            (found.uid, found.gid) = (uid, gid);
            if !home.is_empty() {
                found.home = PathBuf::from(home);
            }
            known = Some(*entry);
            break;
        }
    }
    if known.is_none() && number.is_none() {
        return Err(format!("no user {name} in /etc/passwd of the task's root"));
    }
    if let Some(group_name) = group_name.filter(|name| !name.is_empty()) {
        found.gid = find_group(group_name, group)?;
    } else if let Some(known) = known {
        found.groups = groups_of(known, group);
    }
    for name in more {
        found.groups.push(find_group(name, group)?);
    }
    found.groups.sort_unstable();
    found.groups.dedup();
    Ok(found)
}

/// Each line of `/etc/group`: name, number, members.
fn entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid, members) = (fields.next()?, fields.nth(1)?, fields.next().unwrap_or_default());
        Some((name, gid.parse().ok()?, members))
    })
}

fn find_group(name: &str, group: &str) -> Result<u32, String> {
    let named = entries(group)
        .find(|(entry, ..)| *entry == name)
        .map(|(_, gid, _)| gid);
    named
        .or_else(|| name.parse().ok())
        .ok_or_else(|| format!("no group {name} in /etc/group of the task's root"))
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let is_member = |members: &str| members.split(',').any(|member| member == user);
    entries(group)
        .filter(|(.., members)| is_member(members))
        .map(|(_, gid, _)| gid)
        .collect()
}

/// Gives up all that this user does not have, for good.
pub(super) fn become_user(user: &User, capabilities: u64) -> Result<(), SetupError> {
    for capability in 0..u64::BITS {
        let keep = capabilities & (1 << capability) != 0;
        let more = keep
            || crate::sys::drop_from_bounding_set(capability)
                .map_err(SetupError::io(format_args!("drop capability {capability}")))?;
        if !more {
            break;
        }
    }
    let User {
        uid,
        gid,
        groups,
        home: _,
    } = user;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(SetupError::io("set the groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(SetupError::io(format_args!("become group {gid}")))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(SetupError::io(format_args!("become user {uid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/srv/web:/bin/sh\nbroken\n7:x:9:9::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:40:web,x\nmail:x:41:x\nbad:x:y:web\n";

    fn found(user: &str, more: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        let User {
            uid,
            gid,
            groups,
            home,
        } = find_in(user, &more, PASSWD, GROUP)?;
        Ok((uid, gid, groups, home.display().to_string()))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (user, more, expected) in [
            ("", &[][..], (0, 0, vec![], "/root")),
            ("0", &[], (0, 0, vec![], "/root")),
            ("web", &[], (33, 34, vec![40], "/srv/web")),
            ("33", &[], (33, 34, vec![40], "/srv/web")),
            ("web:mail", &[], (33, 41, vec![], "/srv/web")),
            ("web:5", &[], (33, 5, vec![], "/srv/web")),
            ("1000", &[], (1000, 0, vec![], "/")),
            (
                "1000:1001",
                &["mail", "99", "mail"],
                (1000, 1001, vec![41, 99], "/"),
            ),
            (":mail", &[], (0, 41, vec![], "/root")),
            ("7", &[], (9, 9, vec![], "/")),
        ] {
            let (uid, gid, groups, home) = expected;
            assert_eq!(
                found(user, more),
                Ok((uid, gid, groups, home.to_owned())),
                "{user} {more:?}"
            );
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_refused() {
        for (user, more) in [
            ("nobody", &[][..]),
            ("web:staff", &[]),
            ("web", &["staff"]),
            ("-1", &[]),
            ("4294967296", &[]),
        ] {
            assert!(found(user, more).is_err(), "{user} {more:?}");
        }
    }
}
