//! A disk of its own for a test: ext4 on a loop device, which can hang, and whose state at any
//! moment can be kept as a loss of power would leave it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::undo::Undo;

/// What fits ext4 with a journal.
const SIZE: u64 = 16 << 20;

/// A mounted file system, which goes when this value does.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    path: PathBuf,
    _undo: Undo,
}

/// While this lives, whoever writes to the disk waits.
#[derive(Debug)]
pub struct Hanging<'a>(&'a LoopDisk);

impl LoopDisk {
    /// Makes an empty one, kept in the file `image`, and mounts it at `path`.
    pub fn make(image: &Path, path: &Path) -> io::Result<LoopDisk> {
        File::create(image)?.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(image))?;
        LoopDisk::mount(image, path)
    }

    /// Mounts the one that is kept in the file `image`; its journal is made good first.
    ///
    /// Nothing but syncing orders what is written: ext4's own care for files that are renamed is
    /// switched off, as other file systems have none.
    pub fn mount(image: &Path, path: &Path) -> io::Result<LoopDisk> {
        fs::create_dir_all(path)?;
        let undo = Undo::enter({
            let path = path.to_owned();
            // Whoever still waits for a hanging disk could not be ended.
            move || drop((fsfreeze("--unfreeze", &path), umount(&path)))
        });
        run(Command::new("mount").args(["-o", "loop,noauto_da_alloc"]).arg(image).arg(path))?;
        Ok(LoopDisk { image: image.to_owned(), path: path.to_owned(), _undo: undo })
    }

    /// Lets it hang.
    pub fn hang(&self) -> io::Result<Hanging<'_>> {
        fsfreeze("--freeze", &self.path)?;
        Ok(Hanging(self))
    }

    /// Copies what a loss of power would leave now. Nobody may write to it meanwhile.
    pub fn lose_power(&self, image: &Path) -> io::Result<()> {
        fs::copy(&self.image, image).map(drop)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        // It thaws at the latest with the disk.
        let _ = fsfreeze("--unfreeze", &self.0.path);
    }
}

fn fsfreeze(how: &str, path: &Path) -> io::Result<()> {
    run(Command::new("fsfreeze").arg(how).arg(path))
}

fn umount(path: &Path) -> io::Result<()> {
    run(Command::new("umount").arg("--lazy").arg(path))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
