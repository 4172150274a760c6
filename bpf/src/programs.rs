//! The programs: the object that was built with this crate, loaded.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::tables::SPECS;
use crate::{Error, Sizes};

/// How often a program is loaded whose verification is interrupted, by what [`undisturbed`] cannot
/// keep off: a container that is frozen, say.
const ATTEMPTS: usize = 5;

pub(crate) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fqdnd.o"));

/// The loaded programs. They live as long as this, or as something they are attached to.
#[derive(Debug)]
pub(crate) struct Programs {
    pub from_endpoint: OwnedFd,
    pub to_endpoint: OwnedFd,
    pub bridge_ingress: OwnedFd,
}

impl Programs {
    /// Loads the object on the maps that are pinned in `directory`, and pins those that are not.
    pub fn load(directory: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        // Nothing here depends on the kernel's own types.
        loader.btf(None).default_map_pin_directory(directory);
        for spec in &SPECS {
            loader.map_max_entries(spec.name, (spec.entries)(sizes));
        }
        let mut object = loader.load(OBJECT)?;
        Ok(Self {
            from_endpoint: load(&mut object, "from_endpoint")?,
            to_endpoint: load(&mut object, "to_endpoint")?,
            bridge_ingress: load(&mut object, "bridge_ingress")?,
        })
    }
}

fn load(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd, Error> {
    let program = object.program_mut(name).ok_or(Error::NoProgram(name))?;
    load_classifier(program).map_err(|source| Error::Program { program: name, source })
}

fn load_classifier(program: &mut Program) -> Result<OwnedFd, ProgramError> {
    let classifier: &mut SchedClassifier = program.try_into()?;
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match undisturbed(|| classifier.load()) {
            Err(error) if attempts > 0 && was_interrupted(&error) => {}
            loaded => break loaded?,
        }
    }
    Ok(classifier.fd()?.as_fd().try_clone_to_owned()?)
}

fn was_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. }
        if io_error.raw_os_error() == Some(libc::EAGAIN))
}

/// Keeps signals off this thread meanwhile. The verifier gives up with EAGAIN when one waits for the
/// thread that called it, even one that is ignored, such as that a child of another thread's ended.
pub(crate) fn undisturbed<T>(load: impl FnOnce() -> T) -> T {
    struct Restore(SigSet);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.thread_set_mask().expect("a mask that was in force is a valid one");
        }
    }
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let _restore = Restore(before.expect("every signal there is makes a valid mask"));
    load()
}
