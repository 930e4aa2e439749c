//! Whether the user that a node becomes may do with files what the node does, by owners and modes. Access lists, which may
//! allow more, are not looked at.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, geteuid};
use shared::permission::{self, Attributes, Denied, Want, folder_of};
use shared::problem::Problem;

use super::Files;
use crate::keys::Owner;
use crate::settings::{KeyLines, Settings};

/// What `server.user` may not read of `files`, nor write of what it has to write; relative paths start at `folder`. That
/// there is no such user only where a node serves already: a start, and a check, refuse it.
pub(super) fn warnings(
    settings: &Settings,
    files: &Files,
    folder: &Path,
    lines: &KeyLines,
    is_serving: bool,
) -> Vec<Problem> {
    let Some(user) = &settings.server.user else { return Vec::new() };
    let key = "server.user";
    let warning = |what: String| lines.problem(key, &[key, "server"], what);
    let owner = match Owner::of_user(user) {
        Ok(Some(owner)) => owner,
        Ok(None) if !is_serving => return Vec::new(),
        Ok(None) => return vec![warning(format!("there is no user {user} on this machine: a node would not start"))],
        // The start says so.
        Err(_) => return Vec::new(),
    };
    if geteuid() == Uid::from_raw(owner.uid) {
        // It has read all of them a moment ago.
        return Vec::new();
    }
    let reads = files.paths().map(|path| (path.to_owned(), Want::Read));
    let journals = settings.zones.iter().filter_map(|zone| zone.journal.as_ref());
    let written = settings.server.state_file.iter().chain(journals).map(|path| folder.join(path));
    // Their folders too: they are made, and replaced as a whole.
    let writes = written.flat_map(|path| [folder_of(&path).to_owned(), path]).map(|path| (path, Want::Write));
    let mut found: Vec<Denied> = Vec::new();
    for denied in reads.chain(writes).filter_map(|(path, want)| denied(owner, &path, want)) {
        if !found.iter().any(|known| known.at == denied.at) {
            found.push(denied);
        }
    }
    found.into_iter().map(|denied| warning(told(user, &denied))).collect()
}

fn told(user: &str, denied: &Denied) -> String {
    let Denied { at, want, found } = denied;
    let (verb, so) = match want {
        Want::Read => ("read", "every reload would be refused"),
        Want::Write => ("write", "nothing can be kept there"),
        Want::Enter => ("enter", "what is in it cannot be used"),
    };
    let (at, mode) = (at.display(), found.permissions());
    let owner = Owner { uid: found.uid, gid: found.gid }.name();
    format!(
        "{user} may not {verb} {at} (mode {mode:04o}, owner {owner}), so that {so}: expected an owner or a mode that lets \
         it, as by `chown {user} {at}`"
    )
}

/// Where `who` is stopped on the way to `path`.
fn denied(who: Owner, path: &Path, want: Want) -> Option<Denied> {
    let look = |at: &Path| {
        let found = fs::metadata(at).ok()?;
        Some(Attributes { uid: found.uid(), gid: found.gid(), mode: found.mode(), is_folder: found.is_dir() })
    };
    permission::denied((who.uid, who.gid), &fs::canonicalize(path).ok()?, want, look)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOBODY: Owner = Owner { uid: 65_534, gid: 65_534 };

    #[test]
    fn first_folder_or_file_that_stops_somebody_is_named() {
        let site = tempfile::tempdir().expect("a folder");
        let (folder, file) = (site.path().join("keys"), site.path().join("keys/file"));
        fs::create_dir(&folder).expect("made");
        fs::write(&file, "").expect("written");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        set(site.path(), 0o755);
        let at = |want| denied(NOBODY, &file, want).map(|denied| denied.at);
        let (at_file, at_folder) = (file.canonicalize().expect("there"), folder.canonicalize().expect("there"));
        for (of_folder, of_file, want, expected) in [
            (0o755, 0o644, Want::Read, None),
            (0o755, 0o600, Want::Read, Some(&at_file)),
            (0o755, 0o644, Want::Write, Some(&at_file)),
            (0o755, 0o666, Want::Write, None),
            (0o700, 0o644, Want::Read, Some(&at_folder)),
            (0o711, 0o604, Want::Read, None),
        ] {
            set(&folder, of_folder);
            set(&file, of_file);
            assert_eq!(at(want).as_ref(), expected, "{of_folder:o} {of_file:o} {want:?}");
        }
        assert!(denied(NOBODY, &site.path().join("none"), Want::Read).is_none(), "what is missing is told elsewhere");
        let owner = Owner::of(&file).expect("there");
        set(&file, 0o400);
        assert!(denied(owner, &file, Want::Read).is_none());
    }

    #[test]
    fn what_is_in_the_way_is_told_with_the_command_to_run() {
        let found = Attributes { uid: 0, gid: 0, mode: 0o100_600, is_folder: false };
        let told = told("gslb", &Denied { at: "keys/K.private".into(), want: Want::Read, found });
        assert!(told.starts_with("gslb may not read keys/K.private (mode 0600, owner root)"), "{told}");
        assert!(told.ends_with("`chown gslb keys/K.private`"), "{told}");
    }
}
