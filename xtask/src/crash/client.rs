//! A small S3 client of the crash tests' own, so that a mistake in the server's signing code cannot hide here.
//!
//! Signatures: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>. Keys are made of
//! characters that need no encoding.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::record::Value;
use crate::clock;

pub(crate) const ACCESS_KEY: &str = "CROSSDOCKCRASHTESTS";
pub(crate) const SECRET_KEY: &str = "crash-tests-secret";
const REGION: &str = "us-east-1";

/// Longer than any reply takes, shorter than a test run: a server that hangs is an error.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply: status code, the entity tag if it names one, and body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// One kept-alive connection.
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    /// Sends one signed request and reads its reply.
    ///
    /// # Errors
    /// An error says nothing about what the server did: the request may have been carried out.
    pub(crate) fn call(&mut self, method: &str, path: &str, query: &str, body: &[u8]) -> io::Result<Reply> {
        self.send(method, path, query, None, body)
    }

    /// As [`Client::call`]: has the server put what is at `source` (a path) at `path`.
    pub(crate) fn copy(&mut self, source: &str, path: &str) -> io::Result<Reply> {
        self.send("PUT", path, "", Some(source), &[])
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        query: &str,
        copy_source: Option<&str>,
        body: &[u8],
    ) -> io::Result<Reply> {
        let head = signed_head(method, self.address, path, query, copy_source, body, clock::wall());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        self.read_reply()
    }

    fn read_reply(&mut self) -> io::Result<Reply> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other(format!("no status in {status_line:?}")))?;
        let (mut length, mut chunked, mut etag) = (0_usize, false, None);
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if name.eq_ignore_ascii_case("etag") {
                etag = Some(value.trim().to_owned());
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim() == "chunked";
        }
        let mut body = Vec::new();
        if status == 204 {
            return Ok(Reply { status, etag, body });
        }
        if !chunked {
            self.read_exactly(length, &mut body)?;
            return Ok(Reply { status, etag, body });
        }
        loop {
            let line = self.read_line()?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.read_exactly(size, &mut body)?;
            self.read_line()?;
            if size == 0 {
                return Ok(Reply { status, etag, body });
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn read_exactly(&mut self, size: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let read = (&mut self.stream).take(size as u64).read_to_end(body)?;
        if read == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// What an object's reply says the key holds; an error for any reply that is neither an object nor its absence.
pub(crate) fn value_of(reply: &Reply) -> Result<Value, String> {
    match reply.status {
        200 => Ok(Value::Present { bytes: reply.body.len() as u64, sha256: sha256(&reply.body) }),
        404 => Ok(Value::Absent),
        status => Err(format!("status {status}: {}", String::from_utf8_lossy(&reply.body))),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String can be written to");
        text
    })
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The request head with its signature. `query` is canonical already: sorted and encoded.
fn signed_head(
    method: &str,
    address: SocketAddr,
    path: &str,
    query: &str,
    copy_source: Option<&str>,
    body: &[u8],
    time: SystemTime,
) -> String {
    let stamp = timestamp(time);
    let day = &stamp[..8];
    let content = hex(&sha256(body));
    // In the order of their names, which is the order they are signed in.
    let mut signed = vec![("host", address.to_string()), ("x-amz-content-sha256", content.clone())];
    signed.extend(copy_source.map(|source| ("x-amz-copy-source", source.to_owned())));
    signed.push(("x-amz-date", stamp.clone()));
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let headers: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let request = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{content}");
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&sha256(request.as_bytes())));
    let key = [day, REGION, "s3", "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let lines: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {target} HTTP/1.1\r\n{lines}content-length: {}\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\r\n",
        body.len()
    )
}

/// `time` as `20260102T030405Z`.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by the proleptic Gregorian calendar, in years that begin on the first of March, so that the
    // day that some years lack comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second % 3600 / 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_signature_wants_them() {
        // The epoch, a leap day, the last second of a year, and the first day of March after a leap day.
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_735_689_599), "20241231T235959Z");
        assert_eq!(at(1_709_251_200), "20240301T000000Z");
    }

    #[test]
    fn a_signature_is_the_published_one() {
        // The key derivation of the AWS documents' example gives the published signing key.
        let key = ["20150830", "us-east-1", "iam", "aws4_request"]
            .iter()
            .fold(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec(), |key, part| mac(&key, part));
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }
}
