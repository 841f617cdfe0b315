//! Bulk files: JSON Lines, or CSV with a header line. A malformed line is reported with its number and
//! its reason, and never stops the rest.

use std::{
    collections::HashSet,
    io::{BufRead, Read as _},
    path::Path,
};

use jiff::Timestamp;
use parallax_validation::{
    base::octets::escape,
    problem::ProblemKind,
    request::{CheckRequest, RawRequest, RequestRules},
};

/// Octets of a line.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// How a bulk file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    JsonLines,
    /// Comma-separated, with a header line.
    Csv,
}

impl Format {
    /// By the ending of the file's name.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("csv") => Self::Csv,
            _ => Self::JsonLines,
        }
    }
}

/// A line that is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// Its id, if one could be read.
    pub id: Option<String>,
    /// Its problem type.
    pub problem: ProblemKind,
    /// What is wrong with it.
    pub reason: String,
}

/// Lines of a bulk file, parsed.
pub struct Input<R> {
    reader: R,
    format: Format,
    rules: RequestRules,
    line: u64,
    header: Option<Vec<String>>,
    ids: HashSet<String>,
}

impl<R: BufRead> Input<R> {
    /// Reads from `reader`; `rules` are what its requests are held against.
    pub fn new(reader: R, format: Format, rules: RequestRules) -> Self {
        Self { reader, format, rules, line: 0, header: None, ids: HashSet::new() }
    }

    /// The next line that is not empty.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next_line(&mut self) -> std::io::Result<Option<(u64, Result<CheckRequest, BadLine>)>> {
        let next = self.next_raw()?;
        Ok(next.map(|(line, raw)| (line, raw.and_then(|raw| self.parse(raw)))))
    }

    /// The same as it is written, with an id.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next_raw(&mut self) -> std::io::Result<Option<(u64, Result<RawRequest, BadLine>)>> {
        loop {
            let mut bytes = Vec::new();
            let read = (&mut self.reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if bytes.len() > LINE_BYTES_MAX {
                self.skip_rest_of_line()?;
                return Ok(Some((self.line, Err(self.bad(None, format!("longer than {LINE_BYTES_MAX} octets"))))));
            }
            let Ok(text) = std::str::from_utf8(bytes.trim_ascii()) else {
                return Ok(Some((self.line, Err(self.bad(None, "not UTF-8".to_owned())))));
            };
            if text.is_empty() || self.take_header(text) {
                continue;
            }
            return Ok(Some((self.line, self.raw(text))));
        }
    }

    fn skip_rest_of_line(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|&b| b == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    fn bad(&self, id: Option<String>, reason: String) -> BadLine {
        BadLine { line: self.line, id, problem: ProblemKind::Malformed, reason }
    }

    fn take_header(&mut self, text: &str) -> bool {
        if self.format != Format::Csv || self.header.is_some() {
            return false;
        }
        self.header = Some(fields(text).unwrap_or_default().iter().map(|f| f.trim().to_ascii_lowercase()).collect());
        true
    }

    fn raw(&mut self, text: &str) -> Result<RawRequest, BadLine> {
        let mut raw = match self.format {
            Format::JsonLines => {
                serde_json::from_str::<RawRequest>(text).map_err(|error| self.bad(id_of(text), json_reason(&error)))?
            }
            Format::Csv => self.raw_of_csv(text).map_err(|reason| self.bad(None, reason))?,
        };
        let id = raw.id.get_or_insert_with(|| format!("line-{}", self.line)).clone();
        if !self.ids.insert(id.clone()) {
            let reason = format!("id: '{}' was used on an earlier line", escape(id.as_bytes()));
            return Err(self.bad(Some(id).filter(|id| id.len() <= 200), reason));
        }
        Ok(raw)
    }

    fn parse(&self, raw: RawRequest) -> Result<CheckRequest, BadLine> {
        let id = raw.id.clone().filter(|id| id.len() <= 200 && *id != format!("line-{}", self.line));
        CheckRequest::parse(raw, "line", &self.rules, Timestamp::now()).map_err(|error| BadLine {
            line: self.line,
            id,
            problem: error.problem(),
            reason: error.to_string(),
        })
    }

    fn raw_of_csv(&self, text: &str) -> Result<RawRequest, String> {
        let values = fields(text).ok_or_else(|| "not a CSV line".to_owned())?;
        let header = self.header.as_deref().unwrap_or_default();
        if values.len() != header.len() {
            return Err(format!("{} fields, but the header line has {}", values.len(), header.len()));
        }
        let mut raw = RawRequest::default();
        for (key, value) in header.iter().zip(values) {
            let given = (!value.is_empty()).then(|| value.clone());
            match key.as_str() {
                "id" => raw.id = given,
                "name" | "identifier" => raw.identifier = value,
                "method" => raw.method = value,
                "random_value" => raw.random_value = given,
                "record_type" => raw.record_type = given,
                "prefix_label" => raw.prefix_label = given,
                "file" => raw.file = given,
                "scheme" => raw.scheme = given,
                "contact" => raw.contact = given,
                "authorization_domain" => raw.authorization_domain = given,
                "reverse_name" => raw.reverse_name = given,
                "mail_host" => raw.mail_host = given,
                "token" => raw.token = given,
                "key_authorization" => raw.key_authorization = given,
                "account_uri" => raw.account_uri = given,
                "account" => raw.account = given,
                "relied_on_method" => raw.relied_on_method = given,
                "caa" => {
                    raw.caa = match value.as_str() {
                        "" => None,
                        "true" | "1" | "yes" => Some(true),
                        "false" | "0" | "no" => Some(false),
                        other => return Err(format!("caa: '{}' is neither true nor false", escape(other.as_bytes()))),
                    }
                }
                other => return Err(format!("column '{}' is not known", escape(other.as_bytes()))),
            }
        }
        Ok(raw)
    }
}

fn fields(text: &str) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(str::to_owned).collect())
}

/// The reason without the line number of its own, which is always 1.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // A value of the wrong type may be a secret: it is not repeated.
    let reason = match (reason.split_once(": "), reason.rsplit_once(", expected ")) {
        (Some((what @ ("invalid type" | "invalid value"), _)), Some((_, wanted))) => {
            &format!("{what}, expected {wanted}")
        }
        _ => reason,
    };
    format!("{} (column {})", escape(reason.as_bytes()), error.column())
}

/// The id of a line that is JSON but no request.
fn id_of(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.get("id")?.as_str().filter(|id| id.len() <= 200).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, format: Format) -> Vec<(u64, Result<String, String>)> {
        let mut input = Input::new(text.as_bytes(), format, RequestRules::default());
        let mut all = Vec::new();
        while let Some((line, parsed)) = input.next_line().expect("memory can be read") {
            all.push((line, parsed.map(|r| format!("{} {}", r.id, r.identifier)).map_err(|bad| bad.reason)));
        }
        all
    }

    #[test]
    fn err_a_value_of_the_wrong_type_is_not_repeated() {
        for line in [
            r#"{"identifier":"a.example","method":"dns-change","random_value":720219668315079}"#,
            r#"{"identifier":"a.example","method":"http-01","token":["720219668315079"]}"#,
        ] {
            let parsed = lines(line, Format::JsonLines).pop().expect("one line").1;
            let reason = parsed.expect_err(line);
            assert!(reason.contains("invalid type, expected") && !reason.contains("7202"), "{reason}");
        }
    }

    #[test]
    fn malformed_lines_are_reported_by_number_and_do_not_stop_the_rest() {
        let long = format!("{{\"identifier\":\"{}\"}}", "a".repeat(LINE_BYTES_MAX));
        let text = format!(
            "{{\"identifier\":\"a.customer.example\",\"method\":\"caa\"}}\n\nnot json\n{{\"id\":\"x\",\"identifier\":\"b.customer.example\"}}\n{long}\n{{\"id\":\"x\",\"identifier\":\"b.customer.example\",\"method\":\"caa\"}}\n{{\"id\":\"x\",\"identifier\":\"c.customer.example\",\"method\":\"caa\"}}\n{{\"identifier\":\"d.customer.example\",\"method\":\"caa\",\"colour\":1}}\n{{\"identifier\":\"e.customer.example\",\"method\":\"caa\"}}"
        );
        let got = lines(&text, Format::JsonLines);
        let wants = [
            (1, Ok("line-1 a.customer.example")),
            (3, Err("expected")),
            (4, Err("missing field `method`")),
            (5, Err("longer than")),
            (6, Ok("x b.customer.example")),
            (7, Err("used on an earlier line")),
            (8, Err("unknown field `colour`")),
            (9, Ok("line-9 e.customer.example")),
        ];
        assert_eq!(got.len(), wants.len(), "{got:?}");
        for ((line, parsed), (want_line, want)) in got.iter().zip(wants) {
            assert_eq!(*line, want_line);
            match (parsed, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                other => panic!("line {line}: {other:?}"),
            }
        }
    }

    #[test]
    fn csv_has_a_header_and_the_same_meaning() {
        let text = "name,method,caa,id\nwww.customer.example,caa,,one\n\"x.customer.example\",caa,maybe,two\nz.customer.example,caa\n";
        let got = lines(text, Format::Csv);
        assert_eq!(got[0], (2, Ok("one www.customer.example".to_owned())));
        assert!(got[1].1.as_ref().is_err_and(|e| e.contains("neither true nor false")), "{:?}", got[1]);
        assert!(got[2].1.as_ref().is_err_and(|e| e.contains("2 fields, but the header line has 4")), "{:?}", got[2]);
        let text = "name,method,token,account_uri\n*.customer.example,dns-persist-01,,https://ca.example/acct/7\n8.8.4.4,dns-persist-01,,\n";
        let got = lines(text, Format::Csv);
        assert_eq!(got[0], (2, Ok("line-2 *.customer.example".to_owned())));
        assert!(got[1].1.as_ref().is_err_and(|e| e.contains("account_uri: missing")), "{:?}", got[1]);
    }
}
