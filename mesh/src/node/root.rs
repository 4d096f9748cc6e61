//! The file system of a container: a small tmpfs, the host's programs read-only, the Pod's
//! volumes. Runs in the helper process that becomes the container.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, pivot_root, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

/// One bind mount of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Path in the node's mount namespace.
    pub source: PathBuf,
    /// Absolute path in the container; made when absent.
    pub target: PathBuf,
    /// Refuse writes through this mount.
    pub read_only: bool,
}

/// Everything the helper needs to turn itself into the container's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Empty directory on which the root is built.
    pub scratch: PathBuf,
    /// Directory made by [`prepare_image`].
    pub image: PathBuf,
    /// Directory that appears as `/usr/local/bin`.
    pub binaries: PathBuf,
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Text of `/etc/hosts`.
    pub hosts: String,
    /// Volumes, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub working_dir: PathBuf,
    /// User id to run as; `None` leaves the helper's.
    pub uid: Option<u32>,
    /// Group id to run as; `None` leaves the helper's.
    pub gid: Option<u32>,
    /// Refuse writes outside of volumes and `/tmp`.
    pub read_only_root: bool,
    /// No gain of privileges by exec.
    pub no_new_privileges: bool,
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n\
    istio-proxy:x:1337:1337:istio-proxy:/tmp:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nistio-proxy:x:1337:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files and directories of the host's `/etc` that programs from `/usr` need.
const ETC: [&str; 9] = [
    "alternatives",
    "ca-certificates",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "pki",
    "ssl",
];

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    let what = || format!("mount {} at {}", source.display(), target.display());
    let none: Option<&str> = None;
    mount(
        Some(source),
        target,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
    .with_context(what)?;
    if read_only {
        // A user namespace may not drop the flags that the mount came with.
        let held = statvfs(target).with_context(what)?.flags();
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (has, keep) in [
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ] {
            if held.contains(has) {
                flags |= keep;
            }
        }
        mount(none, target, none, flags, none).with_context(what)?;
    }
    Ok(())
}

fn tmpfs(target: &Path, options: &str) -> Result<()> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some(options),
    )
    .with_context(|| format!("mount a tmpfs at {}", target.display()))
}

fn directory(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Makes a mount point of the same sort (file or directory) as `source`.
fn mount_point(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        return fs::create_dir_all(target).with_context(|| format!("make {}", target.display()));
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    if !target.exists() {
        write(target, "")?;
    }
    Ok(())
}

/// Detaches the calling process' mounts from everybody else's.
///
/// # Errors
/// When the kernel refuses.
pub fn private_mounts() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("make the mounts private")
}

/// Mounts the `/proc` of the calling process' PID namespace.
///
/// # Errors
/// When the kernel refuses; inside an unprivileged container it does so when parts of the
/// outer `/proc` are masked.
pub fn mount_proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let none: Option<&str> = None;
    mount(Some("proc"), target, Some("proc"), flags, none)
        .with_context(|| format!("mount /proc at {}", target.display()))
}

/// Lays out once, in the node, what every container mounts: `/usr` read-only with an empty
/// `/usr/local/bin`, and `/dev`.
///
/// # Errors
/// When a mount is refused.
pub fn prepare_image(image: &Path) -> Result<()> {
    let usr = image.join("usr");
    directory(&usr.join("local/bin"), 0o755)?;
    for entry in fs::read_dir("/usr").context("read /usr")? {
        let entry = entry.context("read /usr")?;
        let (source, target) = (entry.path(), usr.join(entry.file_name()));
        let kind = entry.file_type().context("read /usr")?;
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)
                .with_context(|| format!("link {}", target.display()))?;
        } else if kind.is_dir() && entry.file_name() != "local" {
            mount_point(&source, &target)?;
            bind(&source, &target, true)?;
        }
    }
    let dev = image.join("dev");
    directory(&dev, 0o755)?;
    for name in DEVICES {
        let (source, target) = (Path::new("/dev").join(name), dev.join(name));
        write(&target, "")?;
        bind(&source, &target, false)?;
    }
    directory(&dev.join("shm"), 0o1777)?;
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(to, dev.join(name)).with_context(|| format!("link /dev/{name}"))?;
    }
    Ok(())
}

/// Mounts the private tmpfs of the node at `target` and each of `binaries` (name, path) in
/// `directory`.
///
/// # Errors
/// When a binary is missing or a mount is refused.
pub fn prepare_binaries<'a>(
    target: &Path,
    binaries: impl IntoIterator<Item = (&'a String, &'a PathBuf)>,
) -> Result<()> {
    directory(target, 0o755)?;
    for (name, path) in binaries {
        if !path.is_file() {
            bail!("{} is missing: build it first", path.display());
        }
        let place = target.join(name);
        write(&place, "")?;
        bind(path, &place, true)?;
    }
    Ok(())
}

/// Mounts a tmpfs that only the node and its containers see.
///
/// # Errors
/// When the kernel refuses.
pub fn mount_run(target: &Path) -> Result<()> {
    directory(target, 0o755)?;
    tmpfs(target, "mode=755,size=256m")
}

fn populate(spec: &ContainerSpec, root: &Path) -> Result<()> {
    for name in [
        "usr",
        "dev",
        "proc",
        "etc",
        "run",
        "root",
        "var/lib",
        "var/log",
        "var/cache",
    ] {
        directory(&root.join(name), 0o755)?;
    }
    directory(&root.join("tmp"), 0o1777)?;
    directory(&root.join("var/tmp"), 0o1777)?;
    symlink("/run", root.join("var/run")).context("link /var/run")?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let source = Path::new("/").join(name);
        let target = root.join(name);
        match fs::symlink_metadata(&source) {
            Ok(data) if data.is_symlink() => {
                symlink(fs::read_link(&source)?, &target)
                    .with_context(|| format!("link /{name}"))?;
            }
            Ok(data) if data.is_dir() => {
                mount_point(&source, &target)?;
                bind(&source, &target, true)?;
            }
            _ => {}
        }
    }
    bind(&spec.image.join("usr"), &root.join("usr"), true)?;
    bind(&spec.binaries, &root.join("usr/local/bin"), true)?;
    bind(&spec.image.join("dev"), &root.join("dev"), false)?;
    tmpfs(&root.join("dev/shm"), "mode=1777,size=64m")?;
    mount_proc(&root.join("proc"))?;
    let etc = root.join("etc");
    for name in ETC {
        let source = Path::new("/etc").join(name);
        if source.exists() {
            let source = source
                .canonicalize()
                .with_context(|| format!("find /etc/{name}"))?;
            mount_point(&source, &etc.join(name))?;
            bind(&source, &etc.join(name), true)?;
        }
    }
    write(&etc.join("passwd"), PASSWD)?;
    write(&etc.join("group"), GROUP)?;
    write(&etc.join("nsswitch.conf"), NSSWITCH)?;
    write(&etc.join("resolv.conf"), &spec.resolv_conf)?;
    write(&etc.join("hosts"), &spec.hosts)
}

/// Resolves `target` below `root` without following a link of the container out of it:
/// `/var/run/x` must become `<root>/run/x`.
fn inside(root: &Path, target: &Path) -> PathBuf {
    let mut relative = target.strip_prefix("/").unwrap_or(target).to_path_buf();
    if let Ok(rest) = relative.strip_prefix("var/run") {
        relative = Path::new("run").join(rest);
    }
    root.join(relative)
}

/// Builds the root, enters it, drops privileges and becomes the container's program.
/// Returns only on failure.
///
/// # Errors
/// The step that failed.
pub fn become_container(spec: &ContainerSpec) -> Result<std::convert::Infallible> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    private_mounts()?;
    let root = spec.scratch.as_path();
    tmpfs(root, "mode=755,size=64m")?;
    populate(spec, root)?;
    if spec.read_only_root {
        tmpfs(&root.join("tmp"), "mode=1777,size=64m")?;
        tmpfs(&root.join("run"), "mode=755,size=16m")?;
    }
    for each in &spec.mounts {
        let target = inside(root, &each.target);
        mount_point(&each.source, &target)?;
        bind(&each.source, &target, each.read_only)?;
    }
    let old = root.join(".old");
    directory(&old, 0o700)?;
    pivot_root(root, &old).context("change the root")?;
    std::env::set_current_dir("/").context("go to /")?;
    umount2("/.old", MntFlags::MNT_DETACH).context("leave the old root")?;
    fs::remove_dir("/.old").context("remove the old root")?;
    if spec.read_only_root {
        let none: Option<&str> = None;
        let flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
        mount(none, "/", none, flags, none).context("make the root read-only")?;
    }
    std::env::set_current_dir(&spec.working_dir)
        .with_context(|| format!("go to {}", spec.working_dir.display()))?;
    change_user(spec.uid, spec.gid)?;
    if spec.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().context("forbid new privileges")?;
    }
    exec(&spec.command, &spec.env)
}

/// Changes group, then user; supplementary groups are dropped.
///
/// # Errors
/// When an id is not mapped in the user namespace.
pub fn change_user(uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    setgroups(&[]).context("drop supplementary groups")?;
    if let Some(gid) = gid {
        setgid(Gid::from_raw(gid)).with_context(|| format!("change to group {gid}"))?;
    }
    if let Some(uid) = uid {
        setuid(Uid::from_raw(uid)).with_context(|| format!("change to user {uid}"))?;
    }
    Ok(())
}

/// Replaces the process; looks the program up in the `PATH` of `env`.
///
/// # Errors
/// When the program cannot be executed.
pub fn exec(command: &[String], env: &[(String, String)]) -> Result<std::convert::Infallible> {
    let [program, arguments @ ..] = command else {
        bail!("the command is empty");
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(error).with_context(|| format!("execute {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_reached_through_the_link_of_var() {
        let root = Path::new("/r");
        assert_eq!(
            inside(root, Path::new("/var/run/secrets/tokens")),
            Path::new("/r/run/secrets/tokens")
        );
        assert_eq!(
            inside(root, Path::new("/etc/istio/proxy")),
            Path::new("/r/etc/istio/proxy")
        );
    }
}
