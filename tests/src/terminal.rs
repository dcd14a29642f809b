//! A terminal without a screen: a program on a pty, and what an emulator makes of its output.

mod svg;

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::cleanup::{Guard, Resource};

/// A program on a terminal. Dropping it ends the program.
pub struct Terminal {
    child: Child,
    _guard: Guard,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal")
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts `command` on a terminal of `rows` and `columns`.
    pub fn start(program: &Command, rows: u16, columns: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).context("cannot open a pty")?;
        // In a session of its own: the terminal is its /dev/tty, whatever ours is, and tells it of its size.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let duplicate = |fd: &OwnedFd| fd.try_clone().context("cannot duplicate a pty");
        command
            .stdin(Stdio::from(duplicate(&pty.slave)?))
            .stdout(Stdio::from(duplicate(&pty.slave)?))
            .stderr(Stdio::from(pty.slave))
            .env("TERM", "xterm-256color");
        let (child, guard) = Guard::with(|| {
            let child = command
                .spawn()
                .with_context(|| format!("cannot start {command:?}"))?;
            let pid = i32::try_from(child.id()).context("a pid")?;
            Ok((child, Resource::Process(Pid::from_raw(pid))))
        })?;
        // It has the terminal's other end, which must close when the program ends.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = File::from(duplicate(&pty.master)?);
        let drawn = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last program's end is an error here (EIO).
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                let mut screen = drawn.lock().unwrap_or_else(PoisonError::into_inner);
                screen.process(bytes.get(..length).unwrap_or_default());
            }
        });
        Ok(Self {
            child,
            _guard: guard,
            keys: File::from(pty.master),
            screen,
        })
    }

    /// Types `keys`.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.keys
            .write_all(keys.as_bytes())
            .context("cannot write to the pty")
    }

    /// Makes it `rows` by `columns`; the kernel tells the program.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen_mut()
            .set_size(rows, columns);
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .stdin(self.keys.try_clone().context("cannot duplicate a pty")?);
        let status = stty.status().context("cannot run stty")?;
        anyhow::ensure!(status.success(), "stty: {status}");
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// What stands on the screen, in lines.
    pub fn text(&self) -> String {
        self.with(vt100::Screen::contents)
    }

    /// What stands on the screen, as a picture.
    pub fn svg(&self) -> String {
        self.with(svg::draw)
    }

    /// Whether it is as a shell wants it: lines are edited and echoed, the cursor is there, and no program has the screen.
    pub fn is_restored(&self) -> Result<bool> {
        let flags = tcgetattr(&self.keys)
            .context("cannot ask the pty")?
            .local_flags;
        let is_on_screen = self.with(|screen| screen.alternate_screen() || screen.hide_cursor());
        Ok(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO) && !is_on_screen)
    }

    /// Calls `look` on the screen.
    pub fn with<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        look(screen.screen())
    }

    /// Waits until `find` gives an answer on the text of the screen.
    pub fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let text = self.text();
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("after {limit:?} the screen still says:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `wanted` stands on the screen; returns all of it.
    pub fn wait_for(&self, wanted: &str, limit: Duration) -> Result<String> {
        self.wait(limit, |text| text.contains(wanted).then(|| text.to_owned()))
            .with_context(|| format!("{wanted:?} does not come"))
    }

    /// Waits until the program ends.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("it runs after {limit:?}; the screen:\n{}", self.text());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
