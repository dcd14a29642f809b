//! As much of ELF64 (little-endian) as checking a BPF object takes: its sections and its symbols.

use anyhow::{Context, Result, bail};

/// A section: name and contents.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) data: &'a [u8],
    kind: u32,
    link: usize,
    executable: bool,
}

/// A symbol with a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: u64,
    /// Index of its section; 0: undefined.
    pub(crate) section: usize,
    /// Whether it is a function that can be seen from outside: a program, or a global subprogram.
    pub(crate) is_global_function: bool,
}

/// An object file.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
}

const MACHINE_BPF: u16 = 247;
const SECTION_SYMBOLS: u32 = 2;
const SECTION_NO_BITS: u32 = 8;
const FLAG_EXECUTABLE: u64 = 4;
const SYMBOL_SIZE: usize = 24;

impl<'a> Object<'a> {
    /// Parses a BPF object.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self> {
        if !file.starts_with(b"\x7fELF\x02\x01") {
            bail!("not a 64-bit little-endian ELF file");
        }
        let machine = u16_at(file, 18)?;
        if machine != MACHINE_BPF {
            bail!("an ELF file for machine {machine}, not for BPF ({MACHINE_BPF})");
        }
        let table = usize_at(file, 40)?;
        let (entry, count, names) = (u16_at(file, 58)?, u16_at(file, 60)?, u16_at(file, 62)?);
        let mut sections = Vec::new();
        let mut name_offsets = Vec::new();
        for index in 0..usize::from(count) {
            let header = slice(file, table + index * usize::from(entry), usize::from(entry))?;
            let kind = u32_at(header, 4)?;
            let size = if kind == SECTION_NO_BITS {
                0
            } else {
                usize_at(header, 32)?
            };
            name_offsets.push(u32_at(header, 0)? as usize);
            sections.push(Section {
                name: "",
                data: slice(file, usize_at(header, 24)?, size)?,
                kind,
                link: u32_at(header, 40)? as usize,
                executable: u64_at(header, 8)? & FLAG_EXECUTABLE != 0,
            });
        }
        let strings = sections
            .get(usize::from(names))
            .context("no section names")?
            .data;
        for (section, offset) in sections.iter_mut().zip(name_offsets) {
            section.name = text_at(strings, offset)?;
        }
        let symbols = symbols(&sections)?;
        Ok(Self { sections, symbols })
    }

    /// The contents of a section.
    pub(crate) fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections
            .iter()
            .find(|section| section.name == name)
            .map(|section| section.data)
    }

    /// The symbols defined in sections that `select` picks, by name.
    pub(crate) fn defined_in(&self, select: impl Fn(&str) -> bool) -> Vec<&Symbol<'a>> {
        let of = |symbol: &&Symbol<'a>| {
            symbol.section != 0
                && self
                    .sections
                    .get(symbol.section)
                    .is_some_and(|section| select(section.name))
        };
        self.symbols.iter().filter(of).collect()
    }

    /// The programs: functions seen from outside in a section of their own.
    pub(crate) fn programs(&self) -> Vec<&Symbol<'a>> {
        let of = |symbol: &&Symbol<'a>| {
            symbol.is_global_function
                && self
                    .sections
                    .get(symbol.section)
                    .is_some_and(|section| section.executable && section.name != ".text")
        };
        self.symbols.iter().filter(of).collect()
    }
}

fn symbols<'a>(sections: &[Section<'a>]) -> Result<Vec<Symbol<'a>>> {
    let Some(table) = sections
        .iter()
        .find(|section| section.kind == SECTION_SYMBOLS)
    else {
        return Ok(Vec::new());
    };
    let strings = sections.get(table.link).context("no symbol names")?.data;
    let mut found = Vec::new();
    for entry in table.data.chunks_exact(SYMBOL_SIZE) {
        let name = text_at(strings, u32_at(entry, 0)? as usize)?;
        let info = *entry.get(4).context("short symbol")?;
        if !name.is_empty() {
            found.push(Symbol {
                name,
                size: u64_at(entry, 16)?,
                section: usize::from(u16_at(entry, 6)?),
                // STB_GLOBAL or STB_WEAK, STT_FUNC.
                is_global_function: info >> 4 != 0 && info & 0xf == 2,
            });
        }
    }
    Ok(found)
}

fn slice(data: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    start
        .checked_add(length)
        .and_then(|end| data.get(start..end))
        .with_context(|| format!("the file ends before byte {start} + {length}"))
}

fn text_at(strings: &[u8], offset: usize) -> Result<&str> {
    let rest = strings.get(offset..).context("a name outside its table")?;
    let name = rest.split(|&byte| byte == 0).next().unwrap_or_default();
    std::str::from_utf8(name).context("a name that is not text")
}

fn bytes_at<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    Ok(slice(data, offset, N)?.try_into()?)
}

fn u16_at(data: &[u8], offset: usize) -> Result<u16> {
    bytes_at(data, offset).map(u16::from_le_bytes)
}

fn u32_at(data: &[u8], offset: usize) -> Result<u32> {
    bytes_at(data, offset).map(u32::from_le_bytes)
}

fn u64_at(data: &[u8], offset: usize) -> Result<u64> {
    bytes_at(data, offset).map(u64::from_le_bytes)
}

fn usize_at(data: &[u8], offset: usize) -> Result<usize> {
    Ok(u64_at(data, offset)?.try_into()?)
}

#[cfg(test)]
impl Section<'static> {
    /// An empty executable section.
    pub(crate) fn fake(name: &'static str) -> Self {
        Self {
            name,
            data: &[],
            kind: 1,
            link: 0,
            executable: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_refused() {
        assert!(Object::parse(b"").is_err());
        assert!(Object::parse(b"\x7fELF\x02\x01 and then nothing").is_err());
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = Object::parse(&own).unwrap_err().to_string();
        assert!(error.contains("not for BPF"), "{error}");
    }
}
