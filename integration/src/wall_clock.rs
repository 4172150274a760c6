//! A wall clock that can be stepped under one program alone.
//!
//! The machine's own is everybody's. What is preloaded here stands before the system's
//! `clock_gettime`; the kernel's stamps on files keep the true time, so the two disagree meanwhile.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = include_str!("wall_clock.c");

/// The clock of programs that run with its [`environment`](WallClock::environment).
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// Builds it in a directory, right as yet.
    pub fn build(directory: &Path) -> io::Result<WallClock> {
        let clock = WallClock {
            library: directory.join("wall_clock.so"),
            offset: directory.join("wall_clock.offset"),
        };
        clock.step(0)?;
        let source = directory.join("wall_clock.c");
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock.library).arg(&source);
        let output = compiler.output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(clock)
    }

    /// Steps it to so many seconds before or after the true time, for programs that run too.
    pub fn step(&self, seconds: i64) -> io::Result<()> {
        // Written in place, since it is mapped.
        let mut options = File::options();
        let file = options.create(true).write(true).truncate(false).open(&self.offset)?;
        file.write_all_at(&seconds.to_ne_bytes(), 0)
    }

    /// The variables that put it before a program's own.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("WALL_CLOCK", &self.offset)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn year(command: &mut Command) -> i32 {
        let output = command.args(["-u", "+%Y"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_program_sees_the_stepped_clock_and_others_do_not() {
        let directory = std::env::temp_dir().join(format!("wall-clock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let clock = WallClock::build(&directory).unwrap();
        let stepped = || year(Command::new("date").envs(clock.environment()));
        let now = year(&mut Command::new("date"));
        assert!((0..=1).contains(&(stepped() - now)));
        clock.step(40 * 365 * 86_400).unwrap();
        assert!((39..=40).contains(&(stepped() - now)));
        assert!(year(&mut Command::new("date")) - now <= 1);
        fs::remove_dir_all(directory).unwrap();
    }
}
