//! A file system with room for next to nothing, which goes when this value does.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::undo::Undo;

/// A mounted tmpfs of 64 KiB.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _undo: Undo,
}

impl SmallDisk {
    /// Makes the directory and mounts it there.
    pub fn mount(path: &Path) -> io::Result<SmallDisk> {
        fs::create_dir_all(path)?;
        let undo = Undo::enter({
            let path = path.to_owned();
            move || {
                // Not mounted is as good.
                let _ = umount2(&path, MntFlags::MNT_DETACH);
            }
        });
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("size=64k,mode=0700"))?;
        Ok(SmallDisk { path: path.to_owned(), _undo: undo })
    }

    /// Fills it to the last octet.
    pub fn fill(&self) -> io::Result<()> {
        let mut filler = File::create(self.path.join("filler"))?;
        loop {
            match filler.write_all(&[0; 4_096]) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
