//! The Unix socket of operators: who may open it, may do all.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Listens on a path, which is gone when this is dropped.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, by which it is known whether another has taken its place.
    own: (u64, u64),
}

impl LocalListener {
    /// Takes the place of whatever socket is at `path`; owner and group may open it, as far as the umask allows.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::bind_at(path).map_err(|error| {
            io::Error::new(error.kind(), format!("admin_socket: cannot listen on {}: {error}", path.display()))
        })
    }

    fn bind_at(path: &Path) -> io::Result<Self> {
        if std::fs::symlink_metadata(path).is_ok_and(|about| !is_socket(&about)) {
            return Err(io::Error::other("it is there and no socket: expected a path for a new one"));
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The kernel gives the file the mode of the socket, less the umask: it is never open to others, not for a moment.
        fchmod(&socket, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        if std::fs::symlink_metadata(&new).is_ok_and(|about| is_socket(&about)) {
            std::fs::remove_file(&new)?;
        }
        socket.bind(&SockAddr::unix(&new)?)?;
        socket.listen(128)?;
        let about = std::fs::symlink_metadata(&new)?;
        std::fs::rename(&new, path)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())?;
        Ok(Self { listener, path: path.to_owned(), own: (about.dev(), about.ino()) })
    }

    /// The next connection, and the user at its other end.
    pub async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, user))
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        let is_own = std::fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.own);
        if is_own {
            // It may be in a folder that this process may no longer write to.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_socket(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&about.file_type())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn others_may_not_open_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let _listener = LocalListener::bind(&path).expect("bound");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o117, 0, "{mode:o}");
        assert_eq!(mode & 0o600, 0o600, "{mode:o}");
    }

    #[tokio::test]
    async fn a_newer_one_takes_its_place_and_keeps_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let old = LocalListener::bind(&path).expect("bound");
        let new = LocalListener::bind(&path).expect("bound over it");
        drop(old);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(new);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes");
        std::fs::write(&path, "mine").expect("written");
        let error = LocalListener::bind(&path).expect_err("refused").to_string();
        assert!(error.contains("notes") && error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read(&path).expect("there"), b"mine");
    }
}
