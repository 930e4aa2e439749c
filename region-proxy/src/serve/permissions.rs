//! What is not there of the folders that the settings name, and what the user that the proxy becomes may not do with their
//! files, by owners and modes. Access lists, which may allow more, are not looked at.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use shared::permission::{self, Attributes, Denied, Want, folder_of};
use shared::problem::Problem;

use super::rights::look_up;
use crate::config::{Config, LogTarget};

/// Folders that are not there, of what `config`, read from `file`, has written.
pub fn mistakes(file: &Path, config: &Config) -> Vec<Problem> {
    let missing = written(config).into_iter().filter(|(_, path)| !folder_of(path).is_dir());
    let what = |path: &Path| format!("{}: its folder is not there: expected one that is", path.display());
    missing.map(|(key, path)| problem(file, key, what(path))).collect()
}

/// What is allowed in `config`, read from `file`, but seldom meant: its [doubts](Config::doubts), secrets that others can
/// read, interfaces that are not there, and what its user may not read or write.
pub fn warnings(file: &Path, config: &Config) -> Vec<Problem> {
    let open = config.secret_files.iter().filter_map(|path| {
        let mode = fs::metadata(path).ok()?.mode() & 0o7777;
        let shown = path.display();
        let what = || format!("has mode {mode:04o}, so that others can get at the secret in it: run chmod 600 {shown}");
        (mode & OTHERS != 0).then(|| problem(path, "", what()))
    });
    let doubts = config.doubts().into_iter().map(|(key, what)| problem(file, &key, what));
    let absent = interfaces(config).into_iter().filter(|(_, name)| !Path::new("/sys/class/net").join(name).exists());
    let absent = absent.map(|(key, name)| {
        problem(file, &key, format!("there is no {name} on this machine now: expected one that `ip link` shows"))
    });
    let mut found: Vec<Problem> = doubts.chain(open).chain(absent).collect();
    // That there is none is a mistake.
    let Some(user) = config.user.as_deref().and_then(|user| look_up(user).ok()) else { return found };
    if geteuid() == user.uid {
        return found;
    }
    let secrets = config.secret_files.iter().map(PathBuf::as_path);
    let reads = [file].into_iter().chain(secrets).chain(config.certificate_files());
    let reads = reads.map(|path| (path.to_owned(), Want::Read));
    let writes = written(config).into_iter().map(|(_, path)| (folder_of(path).to_owned(), Want::Write));
    for denied in reads.chain(writes).filter_map(|(path, want)| denied(&user, &path, want)) {
        let what = told(&user.name, &denied);
        if !found.iter().any(|known| known.what == what) {
            found.push(problem(file, "user", what));
        }
    }
    found
}

/// The interfaces that `config` names, each with its key.
fn interfaces(config: &Config) -> Vec<(String, &str)> {
    let routers = config.vrrp.iter().flat_map(|router| {
        let key = format!("vrrp.{}.interface", router.name);
        let tracked = router.track.interfaces.keys();
        let tracked = tracked.map(|name| (format!("vrrp.{}.track.interfaces", router.name), name.as_str()));
        std::iter::once((key, router.interface.as_str())).chain(tracked)
    });
    let services = config
        .l4
        .iter()
        .filter_map(|service| Some((format!("l4.{}.interface", service.name), service.interface.as_ref()?.as_str())));
    routers.chain(services).collect()
}

/// What is written of `config`, each with its key.
fn written(config: &Config) -> Vec<(&'static str, &Path)> {
    let log = config.access_log.as_ref().and_then(|log| match &log.target {
        LogTarget::File(path) => Some(path.as_path()),
        LogTarget::Stdout => None,
    });
    let all = [
        ("state_file", config.state_file.as_deref()),
        ("admin_socket", config.admin_socket.as_deref()),
        ("access_log.file", log),
    ];
    all.into_iter().filter_map(|(key, path)| Some((key, path?))).collect()
}

fn problem(file: &Path, key: &str, what: String) -> Problem {
    Problem { file: file.display().to_string(), line: None, key: key.to_owned(), what }
}

fn told(user: &str, denied: &Denied) -> String {
    let verb = match denied.want {
        Want::Read => "read",
        Want::Write => "write to",
        Want::Enter => "enter",
    };
    let (at, mode) = (denied.at.display(), denied.found.permissions());
    format!(
        "{user} may not {verb} {at} (mode {mode:04o}): expected an owner or a mode that lets it, as by `chown {user} {at}`"
    )
}

/// Where `user` is stopped on the way to `path`.
fn denied(user: &User, path: &Path, want: Want) -> Option<Denied> {
    let look = |at: &Path| {
        let found = fs::metadata(at).ok()?;
        Some(Attributes { uid: found.uid(), gid: found.gid(), mode: found.mode(), is_folder: found.is_dir() })
    };
    permission::denied((user.uid.as_raw(), user.gid.as_raw()), &fs::canonicalize(path).ok()?, want, look)
}

/// Modes by which others than the owner can do anything with a file.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nix::unistd::{Gid, Uid};

    use super::*;

    #[test]
    fn the_first_folder_or_file_that_stops_somebody_is_named() {
        let site = tempfile::tempdir().expect("a folder");
        let (folder, file) = (site.path().join("keys"), site.path().join("keys/file"));
        fs::create_dir(&folder).expect("made");
        fs::write(&file, "").expect("written");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        set(site.path(), 0o755);
        let root = User::from_uid(Uid::from_raw(0)).expect("an entry").expect("root");
        let nobody = User { uid: Uid::from_raw(65_534), gid: Gid::from_raw(65_534), ..root };
        let at = |path: &Path, want| denied(&nobody, path, want).map(|denied| denied.at);
        let (at_file, at_folder) = (file.canonicalize().expect("there"), folder.canonicalize().expect("there"));
        for (of_folder, of_file, path, want, expected) in [
            (0o755, 0o644, &file, Want::Read, None),
            (0o755, 0o600, &file, Want::Read, Some(&at_file)),
            (0o700, 0o644, &file, Want::Read, Some(&at_folder)),
            (0o711, 0o604, &file, Want::Read, None),
            (0o755, 0o644, &folder, Want::Write, Some(&at_folder)),
            (0o777, 0o644, &folder, Want::Write, None),
        ] {
            set(&folder, of_folder);
            set(&file, of_file);
            assert_eq!(at(path, want).as_ref(), expected, "{of_folder:o} {of_file:o} {want:?}");
        }
        assert_eq!(at(&site.path().join("none"), Want::Read), None, "what is missing is told elsewhere");
    }

    #[test]
    fn interfaces_that_are_not_there_are_named_with_their_key() {
        let text = "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n\
                    services.s.servers.a = \"192.0.2.1:80\"\n\
                    [vrrp.web]\ninterface = \"lo\"\nid = 51\npriority = 250\nvips = [\"127.0.1.10\"]\n\
                    track = { interfaces = { none-such = 100, lo = 50 } }\n";
        let config = Config::parse("p.toml".as_ref(), text, &|_| Err(String::new())).expect("right");
        let told: Vec<_> = warnings("p.toml".as_ref(), &config).iter().map(ToString::to_string).collect();
        let about = told.iter().filter(|line| line.contains("ip link")).collect::<Vec<_>>();
        assert_eq!(about.len(), 1, "{told:#?}");
        assert!(about[0].starts_with("p.toml: vrrp.web.track.interfaces: there is no none-such"), "{told:#?}");
    }

    #[test]
    fn what_is_in_the_way_is_told_with_the_command_to_run() {
        let found = Attributes { uid: 0, gid: 0, mode: 0o100_600, is_folder: false };
        let told = told("gslb", &Denied { at: "token".into(), want: Want::Read, found });
        assert!(
            told.starts_with("gslb may not read token (mode 0600)") && told.ends_with("`chown gslb token`"),
            "{told}"
        );
    }
}
