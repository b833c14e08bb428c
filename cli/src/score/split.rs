//! How is a stream cut into batches of lines: bounded in length, and never waiting to fill one?

use std::io::{self, BufRead, BufReader, Read};

/// A longer line is refused, and not kept in memory.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Enough lines that handing them over costs nothing, few enough that all threads have some.
const LINES_MAX: usize = 32;
/// Of lines that are long; one may go beyond it.
const BYTES_MAX: usize = 64 * 1024;

/// What some editors write before the first line of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Some lines that follow each other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub lines: Vec<Line>,
    /// Of the input, line ends included.
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub number: u64,
    pub text: Text,
}

type Text = Result<Vec<u8>, TooLong>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line has more than {LINE_BYTES_MAX} bytes")]
pub(super) struct TooLong;

/// Lines in batches. Blank lines count, and are left out.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    number: u64,
    done: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: BufReader<R>) -> Self {
        Self { input, number: 0, done: false }
    }

    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.lines.len() < LINES_MAX && batch.bytes < BYTES_MAX as u64 {
            let Some((mut text, bytes)) = self.line()? else { break };
            batch.bytes += bytes;
            self.number += 1;
            if let (1, Ok(text)) = (self.number, &mut text)
                && text.starts_with(BYTE_ORDER_MARK)
            {
                text.drain(..BYTE_ORDER_MARK.len());
            }
            if text.as_ref().map_or(true, |text| !text.trim_ascii().is_empty()) {
                batch.lines.push(Line { number: self.number, text });
            }
            // Somebody types, or another program answers line by line: what is there goes.
            if !batch.lines.is_empty() && !self.input.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok((batch.bytes > 0).then_some(batch))
    }

    /// The next line without its end, and how many bytes it took.
    fn line(&mut self) -> io::Result<Option<(Text, u64)>> {
        let mut text = Ok(Vec::new());
        let mut bytes = 0;
        loop {
            let found = match self.input.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if found.is_empty() {
                return Ok((bytes > 0).then_some((text, bytes)));
            }
            let end = found.iter().position(|&byte| byte == b'\n');
            let (piece, used) = match end.and_then(|end| found.get(..end)) {
                Some(piece) => (piece, piece.len() + 1),
                None => (found, found.len()),
            };
            match &mut text {
                Ok(kept) if kept.len() + piece.len() <= LINE_BYTES_MAX => kept.extend_from_slice(piece),
                Ok(_) | Err(TooLong) => text = Err(TooLong),
            }
            bytes += used as u64;
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some((text, bytes)));
            }
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.batch().transpose();
        self.done = !matches!(batch, Some(Ok(_)));
        batch
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn lines(input: &[u8]) -> Vec<Batch> {
        Lines::new(BufReader::with_capacity(64, input)).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_line_comes_once_in_order_and_with_its_number() {
        let input: String = (1..=1_000).map(|at| format!("line {at}\n")).collect();
        let batches = lines(input.as_bytes());
        let all: Vec<(u64, String)> = batches
            .iter()
            .flat_map(|batch| &batch.lines)
            .map(|line| (line.number, String::from_utf8(line.text.clone().unwrap()).unwrap()))
            .collect();
        assert_eq!(all.len(), 1_000);
        assert!(all.iter().all(|(number, text)| *text == format!("line {number}")));
        assert_eq!(batches.iter().map(|batch| batch.bytes).sum::<u64>(), input.len() as u64);
    }

    #[test]
    fn the_last_line_needs_no_end_and_blank_lines_only_count() {
        let all: Vec<u64> =
            lines(b"a\n\n  \r\nb").iter().flat_map(|batch| &batch.lines).map(|line| line.number).collect();
        assert_eq!(all, [1, 4]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line_and_of_no_other() {
        let texts: Vec<Vec<u8>> = lines(b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb")
            .into_iter()
            .flat_map(|batch| batch.lines)
            .map(|line| line.text.unwrap())
            .collect();
        assert_eq!(texts, [&b"a"[..], b"\xEF\xBB\xBFb"]);
        assert_eq!(lines(b"\xEF\xBB\xBF\n").iter().flat_map(|batch| &batch.lines).count(), 0);
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_and_the_next_one_read() {
        let mut input = vec![b'x'; LINE_BYTES_MAX];
        input.extend_from_slice(b"\n");
        input.extend(std::iter::repeat_n(b'y', LINE_BYTES_MAX + 1));
        input.extend_from_slice(b"\nz\n");
        let found: Vec<Result<usize, TooLong>> = lines(&input)
            .into_iter()
            .flat_map(|batch| batch.lines)
            .map(|line| line.text.map(|text| text.len()))
            .collect();
        assert_eq!(found, [Ok(LINE_BYTES_MAX), Err(TooLong), Ok(1)]);
    }
}
