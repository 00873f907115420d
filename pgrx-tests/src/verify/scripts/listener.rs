//! A server that agrees to everything, for psql: it writes down what it is sent, and knows nothing. So what psql sends depends on
//! its script and on nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use anyhow::{Context, Result};
use regex::Regex;

/// What psql has sent: messages with SQL, and the data of COPY.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Sql(String),
    Data(String),
}

pub struct Listener {
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Listener {
    /// Lives as long as the process.
    pub fn start() -> Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let listener = Self { address: socket.local_addr()?, sent: Arc::default() };
        let sent = Arc::clone(&listener.sent);
        thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                let sent = Arc::clone(&sent);
                // psql opens the next connection before it closes the last one.
                let _ = stream.set_nodelay(true);
                thread::spawn(move || Connection { stream, sent, copies: 0 }.serve());
            }
        });
        Ok(listener)
    }

    /// Since the last call.
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().expect("nobody panics here"))
    }
}

struct Connection {
    stream: TcpStream,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// So many COPY wait for their data.
    copies: usize,
}

impl Connection {
    fn serve(&mut self) -> Result<()> {
        let _startup = self.body()?;
        self.say(b'R', &0_i32.to_be_bytes())?;
        for (name, value) in [("server_version", "18.0"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8")] {
            self.tell(name, value)?;
        }
        self.tell("standard_conforming_strings", "on")?;
        self.ready()?;
        let mut data = Vec::new();
        loop {
            let mut kind = [0];
            match self.stream.read_exact(&mut kind) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            let body = self.body()?;
            match kind[0] {
                b'Q' => {
                    self.note(text(&body));
                    if self.copies == 0 {
                        self.say(b'C', b"SELECT 0\0")?;
                        self.ready()?;
                    } else {
                        self.copy()?;
                    }
                }
                b'd' => data.extend(body),
                b'c' | b'f' => {
                    let data = String::from_utf8_lossy(&std::mem::take(&mut data)).into_owned();
                    self.sent.lock().expect("nobody panics here").push(Sent::Data(data));
                    self.copies = self.copies.saturating_sub(1);
                    self.say(b'C', b"COPY 0\0")?;
                    if self.copies == 0 { self.ready()? } else { self.copy()? }
                }
                b'P' => {
                    let query = body.split(|byte| *byte == 0).nth(1).context("a query")?;
                    self.note(text(query));
                    self.say(b'1', &[])?;
                }
                b'B' => self.say(b'2', &[])?,
                b'D' => self.say(b'n', &[])?,
                b'E' => self.say(b'C', b"SELECT 0\0")?,
                b'C' => self.say(b'3', &[])?,
                b'S' => self.ready()?,
                b'X' => return Ok(()),
                _ => {}
            }
        }
    }

    fn note(&mut self, sql: String) {
        static COPY: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\bcopy\s+[^(;\s][^;]*\bfrom\s+stdin\b").expect("it is one"));
        static STRINGS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^\s*(?:--.*\s+)*set\s+standard_conforming_strings\s*(?:to|=)\s*(\w+)").expect("it is one")
        });
        let small = sql.to_lowercase();
        self.copies = COPY.find_iter(&small).count();
        if let Some(set) = STRINGS.captures(&small) {
            let _ = self.tell("standard_conforming_strings", &set[1]);
        }
        self.sent.lock().expect("nobody panics here").push(Sent::Sql(sql));
    }

    fn copy(&mut self) -> Result<()> {
        // As text, of no columns.
        self.say(b'G', &[0, 0, 0])
    }

    fn ready(&mut self) -> Result<()> {
        self.say(b'Z', b"I")
    }

    fn tell(&mut self, name: &str, value: &str) -> Result<()> {
        self.say(b'S', format!("{name}\0{value}\0").as_bytes())
    }

    fn say(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let length = i32::try_from(body.len() + 4)?.to_be_bytes();
        Ok(self.stream.write_all(&[&[kind], &length[..], body].concat())?)
    }

    fn body(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length).saturating_sub(4) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end_matches('\0').to_owned()
}
