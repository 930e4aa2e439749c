//! What commands print.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::Failure;

/// Prints `text` to standard output. Who has read enough and closed it, such as `head`, ends it without a complaint.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_to(&mut io::stdout().lock(), text)
}

/// Prints why a command was not done to standard error, if that is still open.
pub(super) fn complain(failure: &impl Display) {
    // There is nowhere left to say that it could not be said.
    let _ = writeln!(io::stderr(), "{failure}");
}

fn print_to(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Impossible(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails every write.
    struct Closed(ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn closed_output_ends_quietly_and_a_full_disk_does_not() {
        assert!(print_to(&mut Closed(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(print_to(&mut Closed(ErrorKind::StorageFull), "text").is_err());
        let mut out = Vec::new();
        assert!(print_to(&mut out, "text").is_ok() && out == b"text");
    }
}
