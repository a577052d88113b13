//! How large and how deep SQL may be.
//!
//! Whoever walks through a syntax tree (the planner, the optimiser, whatever drops it) does so by recursion, and a stack
//! that overflows ends the process. So a text is measured while it is still a list of tokens, and its tree once it is
//! there, before anybody else walks through it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, ObjectName, ObjectNamePart, Query, Statement, Visit, Visitor};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::sql::SyntaxError;

/// The longest text, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Tokens other than white space. It bounds the depth of whatever the parser makes of a text.
const MAX_TOKENS: usize = 50_000;
/// How deep brackets may stand in each other: above what people write, below what a parser's recursion can take.
const MAX_BRACKETS: usize = 100;
/// How deep expressions may stand in each other. `a || b || c` is two levels deep.
const MAX_LEVELS: usize = 500;
/// Uses of tables, those of a WITH clause with all that they use themselves: a planner writes them out, so that tables
/// which use the one before them twice double with each.
const MAX_USES: usize = 500;
/// How long a chain of tables of a WITH clause may be, each using the one before it.
const MAX_CHAIN: usize = 50;
/// UNION, EXCEPT, INTERSECT and JOIN: each is a level of a plan.
const MAX_COMBINED: usize = 100;
/// A stack on which a tree of [`MAX_TOKENS`] levels can be walked through and dropped. Only what is used of it takes memory.
const STACK_BYTES: usize = 128 << 20;

/// Runs what parses, on a stack that it cannot overflow.
pub(crate) fn on_large_stack<T>(parse: impl FnOnce() -> T) -> T {
    stacker::grow(STACK_BYTES, parse)
}

/// Checks a text before anything is made of it.
pub(crate) fn check_text(text: &str) -> Result<(), SyntaxError> {
    match text.len() <= MAX_BYTES {
        true => Ok(()),
        false => Err(too("long", &format!("{} bytes; the limit is {MAX_BYTES}", text.len()), None)),
    }
}

/// Checks a text's tokens, before the parser recurses over them.
pub(crate) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), SyntaxError> {
    let (mut count, mut combined) = (0, 0);
    // Brackets that are open; of the angle brackets those of types.
    let (mut open, mut angles) = (0_usize, 0_usize);
    let mut after_type = false;
    for token in tokens {
        if matches!(token.token, Token::Whitespace(_)) {
            continue;
        }
        count += 1;
        let mut is_type = false;
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            Token::Lt if after_type => angles += 1,
            Token::Gt => angles = angles.saturating_sub(1),
            Token::ShiftRight => angles = angles.saturating_sub(2),
            Token::Word(word) => match word.keyword {
                Keyword::ARRAY | Keyword::MAP | Keyword::STRUCT => is_type = true,
                Keyword::UNION | Keyword::EXCEPT | Keyword::MINUS | Keyword::INTERSECT | Keyword::JOIN => {
                    combined += 1;
                }
                _ => {}
            },
            _ => {}
        }
        after_type = is_type;
        let place = Some((token.span.start.line, token.span.start.column));
        let place = place.and_then(|(line, column)| Some((line.try_into().ok()?, column.try_into().ok()?)));
        if open + angles > MAX_BRACKETS {
            return Err(too("deep", &format!("more than {MAX_BRACKETS} brackets in each other"), place));
        }
        if combined > MAX_COMBINED {
            let what = format!("more than {MAX_COMBINED} of UNION, EXCEPT, INTERSECT and JOIN");
            return Err(too("large", &what, place));
        }
        if count > MAX_TOKENS {
            return Err(too("long", &format!("more than {MAX_TOKENS} tokens"), place));
        }
    }
    Ok(())
}

/// Checks a tree, before anybody but the parser walks through it.
pub(crate) fn check_tree(tree: &impl Visit) -> Result<(), SyntaxError> {
    match tree.visit(&mut Levels { deep: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(too(
            "deep",
            &format!(
                "more than {MAX_LEVELS} expressions in each other, such as the parts of one long a || b || c"
            ),
            None,
        )),
    }
}

/// Checks what a statement means once the tables of its WITH clauses are written out.
pub(crate) fn check_uses(statement: &Statement) -> Result<(), SyntaxError> {
    match statement.visit(&mut Uses::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(what) => Err(too("large", &what, None)),
    }
}

/// How large a query is: the tables that it uses, and the longest chain of them.
#[derive(Debug, Default, Clone, Copy)]
struct Size {
    uses: usize,
    chain: usize,
}

#[derive(Default)]
struct Uses {
    /// Tables of WITH clauses, by name.
    known: HashMap<String, Size>,
    /// The names that queries of WITH clauses define, by where the query is.
    defined: HashMap<*const Query, String>,
    /// The queries that are being walked through, the innermost last.
    open: Vec<Size>,
}

impl Uses {
    /// Adds to the innermost query what stands in it.
    fn add(&mut self, size: Size) -> ControlFlow<String> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        open.uses += size.uses;
        open.chain = open.chain.max(size.chain);
        if open.uses > MAX_USES {
            return ControlFlow::Break(format!(
                "more than {MAX_USES} uses of tables, those of a WITH clause with all that they use"
            ));
        }
        match open.chain <= MAX_CHAIN {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(format!("more than {MAX_CHAIN} tables of WITH that use one another")),
        }
    }
}

impl Visitor for Uses {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.defined.insert(std::ptr::from_ref(&*table.query), table.alias.name.value.to_lowercase());
        }
        self.open.push(Size::default());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let size = self.open.pop().unwrap_or_default();
        match self.defined.remove(&std::ptr::from_ref(query)) {
            Some(name) => {
                // Another table of the name may be in use further out: the larger of both counts.
                let known = self.known.entry(name).or_default();
                *known = Size { uses: known.uses.max(size.uses), chain: known.chain.max(size.chain + 1) };
                ControlFlow::Continue(())
            }
            None => self.add(size),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<String> {
        let known = match name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => self.known.get(&name.value.to_lowercase()).copied(),
            _ => None,
        };
        let known = known.unwrap_or_default();
        self.add(Size { uses: known.uses.max(1), ..known })
    }
}

fn too(how: &str, what: &str, position: Option<(usize, usize)>) -> SyntaxError {
    SyntaxError { position, message: format!("the SQL is too {how}: {what}") }
}

struct Levels {
    deep: usize,
}

impl Visitor for Levels {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.deep += 1;
        match self.deep <= MAX_LEVELS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.deep -= 1;
        ControlFlow::Continue(())
    }
}
