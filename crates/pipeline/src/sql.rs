//! The pipeline's SQL language: Apache Spark's, as sqlparser reads it.

use std::any::TypeId;

use sqlparser::ast::{Expr, Statement};
use sqlparser::dialect::{Dialect, SparkSqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer, TokenizerError};

use crate::limits;
use crate::problem::line_and_column;

/// Spark SQL with its string literals: backslash escapes, and `"…"` as a string.
///
/// `''` inside a literal is one quote here, as in Spark 4; write `\'` to be understood everywhere.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spark;

/// Hands a method on to sqlparser's own Spark dialect.
macro_rules! as_spark {
    ($($method:ident),* $(,)?) => { $(fn $method(&self) -> bool { SparkSqlDialect.$method() })* };
}

impl Dialect for Spark {
    // The parser asks for the dialect by type in places; there we are Spark.
    fn dialect(&self) -> TypeId {
        TypeId::of::<SparkSqlDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        SparkSqlDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        SparkSqlDialect.is_identifier_part(ch)
    }

    // So that `\'` does not end a literal; what the backslashes mean is said by `unescape`.
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    as_spark!(
        supports_filter_during_aggregation,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_lambda_functions,
        supports_select_wildcard_except,
        supports_struct_literal,
        supports_nested_comments,
        supports_long_type_as_bigint,
        supports_values_as_table_factor,
        require_interval_qualifier,
        supports_bang_not_operator,
        supports_select_item_multi_column_alias,
        supports_cte_without_as,
        supports_map_literal_with_angle_brackets,
    );

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        SparkSqlDialect.parse_infix(parser, expr, precedence)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        // Without this, `DIV` after a term would end the expression.
        match &parser.peek_token_ref().token {
            Token::Word(word) if word.keyword == Keyword::DIV => {
                Some(Ok(self.prec_value(sqlparser::dialect::Precedence::MulDivModOp)))
            }
            _ => None,
        }
    }
}

/// Where and why a text is not SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line and column from 1, where known.
    pub position: Option<(usize, usize)>,
    /// What the parser says.
    pub message: String,
}

impl SyntaxError {
    /// The parser gives no place for what is missing at the end.
    fn in_text(mut self, text: &str) -> Self {
        self.position = self.position.or_else(|| Some(line_and_column(text, text.trim_end().len())));
        self
    }
}

/// Parses one statement, a semicolon after it allowed.
///
/// # Errors
/// [`SyntaxError`] when the text is not one statement of Spark SQL, or is larger or deeper than a planner can take.
pub fn parse_statement(text: &str) -> Result<Statement, SyntaxError> {
    limits::on_large_stack(|| {
        let statement = statement(text)?;
        limits::check_tree(&statement)?;
        limits::check_uses(&statement).map(|()| statement)
    })
}

fn statement(text: &str) -> Result<Statement, SyntaxError> {
    let mut statements =
        parser(text)?.parse_statements().map_err(|error| syntax_error(&error).in_text(text))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(SyntaxError { position: Some((1, 1)), message: "there is no query in it".into() }),
        (Some(_), false) => {
            Err(SyntaxError { position: None, message: "there is more than one statement in it".into() })
        }
    }
}

/// Parses a condition or any other expression, all of `text`.
///
/// # Errors
/// [`SyntaxError`] when the text is not one expression of Spark SQL, or is larger or deeper than a planner can take.
pub fn parse_expression(text: &str) -> Result<Expr, SyntaxError> {
    limits::on_large_stack(|| {
        let expr = expression(text)?;
        limits::check_tree(&expr).map(|()| expr)
    })
}

fn expression(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = parser(text)?;
    let expr = parser.parse_expr().map_err(|error| syntax_error(&error).in_text(text))?;
    parser.expect_token(&Token::EOF).map_err(|error| syntax_error(&error).in_text(text))?;
    Ok(expr)
}

/// How deep an expression may nest: above what people write, below what the stack holds.
const RECURSION_LIMIT: usize = 100;

/// A parser of a text, its string literals read as Spark reads them.
fn parser(text: &str) -> Result<Parser<'static>, SyntaxError> {
    limits::check_text(text)?;
    let failed = |error: TokenizerError| syntax_error(&ParserError::from(error));
    let mut tokens =
        Tokenizer::new(&Spark, text).with_unescape(false).tokenize_with_location().map_err(failed)?;
    for token in &mut tokens {
        if let Token::SingleQuotedString(literal) | Token::DoubleQuotedString(literal) = &mut token.token {
            *literal = unescape(literal);
        }
    }
    limits::check_tokens(&tokens)?;
    Ok(Parser::new(&Spark).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens))
}

/// The text that a Spark string literal means, given what stands between its quotes.
fn unescape(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        // A quote inside can only be the first of two.
        if c == '\'' || c == '"' {
            if chars.as_str().starts_with(c) {
                chars.next();
            }
            text.push(c);
            continue;
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let rest = chars.as_str();
        let code = |from: usize, digits: usize, radix: u32| {
            let digits = rest.get(from..from + digits).filter(|d| d.chars().all(|c| c.is_digit(radix)))?;
            char::from_u32(u32::from_str_radix(digits, radix).ok()?).map(|c| (c, from + digits.len()))
        };
        let octal = rest.starts_with(['0', '1', '2', '3']).then(|| code(0, 3, 8)).flatten();
        let unicode = match rest.chars().next() {
            Some('u') => code(1, 4, 16),
            Some('U') => code(1, 8, 16),
            _ => octal,
        };
        if let Some((c, length)) = unicode {
            text.push(c);
            chars = rest.get(length..).unwrap_or_default().chars();
            continue;
        }
        match chars.next() {
            Some('0') => text.push('\0'),
            Some('b') => text.push('\u{8}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('Z') => text.push('\u{1a}'),
            // In a LIKE pattern these two mean themselves.
            Some(c @ ('%' | '_')) => text.extend(['\\', c]),
            Some(c) => text.push(c),
            None => text.push('\\'),
        }
    }
    text
}

/// Takes the ` at Line: 1, Column: 2` apart that sqlparser puts at the end of a message.
fn syntax_error(error: &ParserError) -> SyntaxError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "it nests too deeply".to_owned(),
    };
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return SyntaxError { position: None, message: text };
    };
    let position = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some((line.parse().ok()?, column.trim().parse().ok()?)));
    SyntaxError { position, message: message.to_owned() }
}

/// The comment that a text begins with, its lines joined by blanks; empty when it begins with something else.
pub fn leading_comment(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        match line.trim().strip_prefix("--") {
            Some(comment) => lines.push(comment.trim_start_matches('-').trim()),
            None if line.trim().is_empty() && lines.is_empty() => {}
            None => break,
        }
    }
    lines.retain(|line| !line.is_empty());
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_spark_reads_them() {
        for (sql, expected) in [
            (r"'a\tb'", "a\tb"),
            (r"'\\d'", r"\d"),
            (r"'it\'s'", "it's"),
            ("'it''s'", "it's"),
            (r#""double""#, "double"),
            (r#"'say "hi"'"#, "say \"hi\""),
            (r"'\u00e9\U0001F600'", "é😀"),
            (r"'\101\0'", "A\0"),
            (r"'50\%'", r"50\%"),
            (r"'\q\\'", r"q\"),
        ] {
            let found = match parse_expression(sql).unwrap() {
                Expr::Value(value) => value.value.into_string().unwrap(),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{sql}");
        }
    }

    #[test]
    fn a_syntax_error_says_line_and_column() {
        let error = parse_statement("SELECT 1\nFROM t WHERE").unwrap_err();
        assert_eq!(error.position.map(|p| p.0), Some(2), "{error:?}");
        let error = parse_statement("SELECT 'open").unwrap_err();
        assert!(error.position.is_some(), "{error:?}");
        assert!(parse_statement("SELECT 1; SELECT 2").is_err());
        assert!(parse_statement("-- nothing").is_err());
        assert!(parse_statement(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))).is_err());
    }

    /// Each of these would overflow the stack of whoever walks through it, and end the process.
    #[test]
    fn sql_that_is_too_deep_or_too_large_is_an_error() {
        let many = |before: &str, part: &str, count: usize| format!("{before}{}", part.repeat(count));
        let nested = |open: &str, close: &str, count: usize| {
            format!("SELECT {}1{}", open.repeat(count), close.repeat(count))
        };
        for count in [3000, 20_000, 200_000] {
            for text in [
                nested("(", ")", count),
                nested("upper(", ")", count),
                nested("(SELECT ", ")", count),
                nested("NOT ", "", count),
                nested("- ", "", count),
                nested("CAST(1 AS ", ")", count),
                nested("", "[0]::INT", count),
                nested("", "::INT", count),
                nested("", " IS NULL", count),
                nested("", " || 'x'", count),
                nested("", " + 1", count),
                nested("", " OR a LIKE 'b'", count),
                nested("", " UNION ALL SELECT 1", count),
                many("SELECT * FROM a", " JOIN b ON true", count),
                format!("SELECT CAST(NULL AS {}INT{})", "ARRAY<".repeat(count), ">".repeat(count)),
                format!("SELECT CAST(NULL AS INT{})", "[]".repeat(count)),
                format!("SELECT * FROM {}a{}", "(".repeat(count), ")".repeat(count)),
            ] {
                assert!(parse_statement(&text).is_err(), "{}", &text[..60]);
            }
            // The parser takes the CASEs that are too deep for names, which no column has.
            let _ = parse_statement(&nested("CASE WHEN true THEN ", " END", count));
        }
        assert!(parse_expression(&many("'x'", " || 'x'", 3000)).is_err());
        assert!(parse_expression(&"(".repeat(3000)).is_err());
    }

    #[test]
    fn tables_of_a_with_clause_are_counted_as_often_as_they_are_used() {
        let with = |levels: usize, body: &str| {
            let tables: Vec<String> = (1..levels)
                .map(|level| format!("a{level} AS ({})", body.replace('?', &format!("A{}", level - 1))))
                .collect();
            format!("WITH a0 AS (SELECT 1), {} SELECT * FROM a{}", tables.join(", "), levels - 1)
        };
        assert!(parse_statement(&with(8, "SELECT * FROM ? l JOIN ? r ON true")).is_ok());
        assert!(parse_statement(&with(60, "SELECT * FROM ? l JOIN ? r ON true")).is_err());
        assert!(
            parse_statement(&with(60, "SELECT * FROM (SELECT * FROM ?) WHERE 1 IN (SELECT * FROM ?)"))
                .is_err()
        );
        assert!(parse_statement(&with(40, "SELECT * FROM ?")).is_ok());
        assert!(parse_statement(&with(3000, "SELECT * FROM ?")).is_err());
    }

    #[test]
    fn sql_of_the_size_that_people_and_programs_write_is_read() {
        let list: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        for text in [
            format!("SELECT 'x'{}", " || 'x'".repeat(400)),
            format!("SELECT * FROM a WHERE b = 1{}", " OR b = 2".repeat(200)),
            format!("SELECT a IN ({}) FROM b", list.join(", ")),
            format!("SELECT CASE{} END FROM b", " WHEN a = 1 THEN 2".repeat(2000)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(50)),
            format!("SELECT {}1{}", "coalesce(".repeat(40), ", 2)".repeat(40)),
            "SELECT a < 1, b > 2, CAST(c AS ARRAY<MAP<STRING, ARRAY<INT>>>) FROM d".to_owned(),
            format!("SELECT {}", vec!["a < 1 AND array(b)[0] > 1"; 200].join(", ")),
        ] {
            parse_statement(&text).unwrap_or_else(|error| panic!("{}: {error:?}", &text[..40]));
        }
    }

    #[test]
    fn integer_division_is_an_operator() {
        assert_eq!(parse_expression("7 div 2 + 1").unwrap().to_string(), "7 DIV 2 + 1");
    }

    #[test]
    fn the_title_is_the_comment_on_top() {
        assert_eq!(leading_comment("-- The most\n--   popular\n\nSELECT 1 -- no"), "The most popular");
        assert_eq!(leading_comment("\n\n-- a\nSELECT"), "a");
        assert_eq!(leading_comment("SELECT 1 -- no"), "");
    }
}
