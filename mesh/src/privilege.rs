//! With which rights the mesh can run: as root, or as an ordinary user in a user namespace.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access, getgid, getuid};

/// Text for a refused namespace.
pub const NAMESPACES_REFUSED: &str = "make namespaces: this needs root, or unprivileged user \
     namespaces (sysctl kernel.unprivileged_userns_clone=1 on older Debian, \
     kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, user.max_user_namespaces above 0)";

/// Enters a user namespace in which the caller is root, unless it is root already: with its
/// subordinate ids if it has some, else with no other id. Must be called while the process has
/// one thread.
///
/// # Errors
/// When the kernel refuses; the text names the setting that allows it.
pub fn enter_user_namespace() -> Result<()> {
    if getuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let own = std::process::id();
    let subordinate = (
        subordinate_range("/etc/subuid", uid)?,
        subordinate_range("/etc/subgid", uid)?,
    );
    if let (Some(uids), Some(gids)) = subordinate
        && ["newuidmap", "newgidmap"].into_iter().all(is_installed)
    {
        return with_subordinate_ids(own, (uid, uids), (gid, gids));
    }
    unshare(CloneFlags::CLONE_NEWUSER).context(NAMESPACES_REFUSED)?;
    std::fs::write("/proc/self/setgroups", "deny").context("forbid changes of groups")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("map the user id")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("map the group id")?;
    Ok(())
}

/// Joins the user namespace of the process `pid`, unless the caller is in it already. Must be
/// called while the process has one thread.
///
/// # Errors
/// When the process is gone or belongs to somebody else.
pub fn join_user_namespace(pid: u32) -> Result<()> {
    let theirs = format!("/proc/{pid}/ns/user");
    let name = |path: &str| std::fs::read_link(path).with_context(|| format!("read {path}"));
    if name(&theirs)? == name("/proc/self/ns/user")? {
        return Ok(());
    }
    let file = std::fs::File::open(&theirs).with_context(|| format!("open {theirs}"))?;
    nix::sched::setns(&file, CloneFlags::CLONE_NEWUSER).context("join the mesh's user namespace")
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .any(|directory| access(&directory.join(program), AccessFlags::X_OK).is_ok())
    })
}

/// The first range (start, count) of at least 65,536 ids that `file` gives the caller.
fn subordinate_range(file: &str, uid: u32) -> Result<Option<(u32, u32)>> {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Ok(None);
    };
    let name = nix::unistd::User::from_uid(uid.into())
        .context("look up the own user name")?
        .map(|user| user.name);
    Ok(parse_range(&text, name.as_deref(), uid))
}

fn parse_range(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        let own = Some(owner) == name || owner == uid.to_string();
        (own && count >= 65_536).then_some((start, count))
    })
}

/// The id maps must be written from outside by the set-uid tools, so a child does it: it waits
/// until this process has entered its namespace.
fn with_subordinate_ids(
    own: u32,
    (uid, uids): (u32, (u32, u32)),
    (gid, gids): (u32, (u32, u32)),
) -> Result<()> {
    let script = format!(
        "read go && newuidmap {own} 0 {uid} 1 1 {} {} && newgidmap {own} 0 {gid} 1 1 {} {}",
        uids.0, uids.1, gids.0, gids.1
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .context("start sh for newuidmap")?;
    unshare(CloneFlags::CLONE_NEWUSER).context(NAMESPACES_REFUSED)?;
    if let Some(mut stdin) = child.stdin.take() {
        use std::io::Write as _;
        stdin
            .write_all(b"go\n")
            .context("tell newuidmap to go on")?;
    }
    if !child.wait().context("wait for newuidmap")?.success() {
        bail!("newuidmap or newgidmap failed: check /etc/subuid and /etc/subgid");
    }
    Ok(())
}

/// Whether the calling process, being in its user namespace, can become `id`.
#[must_use]
pub fn is_mapped(id: u32) -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|text| {
        text.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) => {
                    (inside..inside + count).contains(&u64::from(id))
                }
                _ => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_enough_range_of_the_own_user_is_found() {
        let text = "other:100000:65536\nme:165536:1000\nme:231072:65536\n1001:300000:65536\n";
        assert_eq!(parse_range(text, Some("me"), 1000), Some((231_072, 65_536)));
        assert_eq!(parse_range(text, None, 1001), Some((300_000, 65_536)));
        assert_eq!(parse_range(text, Some("nobody"), 7), None);
    }
}
