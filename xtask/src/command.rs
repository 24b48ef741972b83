//! Runs a program with its output on the screen and, when asked, kept for counting.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// How a program ended, and what it printed.
pub(crate) struct Finished {
    pub(crate) success: bool,
    /// Standard output and standard error, in the order they were written.
    pub(crate) output: String,
}

/// A command line to be run in one directory.
pub(crate) struct Line {
    command: Command,
    shown: String,
}

impl Line {
    pub(crate) fn new(program: impl AsRef<Path>, directory: &Path) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.current_dir(directory).stdin(Stdio::null());
        let shown = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Self { command, shown }
    }

    pub(crate) fn args<S: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs to the end, copying every line to standard output as it comes.
    pub(crate) fn run(mut self) -> Result<Finished, String> {
        println!("$ {}", self.shown);
        // One pipe for both streams keeps their order, and one reader needs no thread.
        let (reader, writer) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
        let second = writer.try_clone().map_err(|error| format!("cannot copy a pipe: {error}"))?;
        self.command.stdout(writer).stderr(second);
        let mut child =
            self.command.spawn().map_err(|error| format!("cannot start `{}`: {error}", self.shown))?;
        // The command still holds the pipe's writing ends; the reader sees the end only when they are closed.
        drop(self.command);
        let mut output = String::new();
        let mut lines = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count =
                lines.read_until(b'\n', &mut line).map_err(|error| format!("cannot read: {error}"))?;
            if count == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let mut screen = std::io::stdout().lock();
            // A closed screen is no reason to stop a test run: the exit code still tells.
            let _ = screen.write_all(text.as_bytes());
            output.push_str(&text);
        }
        let status = child.wait().map_err(|error| format!("cannot wait for `{}`: {error}", self.shown))?;
        Ok(Finished { success: status.success(), output })
    }

    /// Runs to the end in silence.
    pub(crate) fn run_quiet(mut self) -> Result<Finished, String> {
        let done =
            self.command.output().map_err(|error| format!("cannot start `{}`: {error}", self.shown))?;
        let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
        output.push_str(&String::from_utf8_lossy(&done.stderr));
        Ok(Finished { success: done.status.success(), output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_arrive_in_order_with_the_exit_code() {
        // Output kept for counting must hold everything the program wrote, on either stream, in order.
        let line = Line::new("sh", Path::new("/")).args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let finished = line.run().unwrap();
        assert!(!finished.success);
        assert_eq!(finished.output, "one\ntwo\nthree\n");
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        // A tool that is not installed must be named, not panic.
        let error = Line::new("/no/such/program", Path::new("/")).run().err().unwrap();
        assert!(error.contains("program"), "{error}");
    }
}
