//! Markdown to a tree of nodes. Nothing in it is markup of the page: raw HTML stays text.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Deeper nesting is flattened, so that no text can exhaust the stack.
const MAX_DEPTH: usize = 24;

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Plain text.
    Text(String),
    /// Code inside a line.
    Code(String),
    /// A block of code, and its language if it names one.
    CodeBlock(String, String),
    /// A line break.
    Break,
    /// A horizontal line.
    Rule,
    /// Something around other nodes.
    Around(Kind, Vec<Node>),
}

/// What is around nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A paragraph.
    Paragraph,
    /// A heading, 1 to 6.
    Heading(u8),
    /// A quotation.
    Quote,
    /// A list, numbered from the number if there is one.
    List(Option<u64>),
    /// An item of a list.
    Item,
    /// Emphasis.
    Emphasis,
    /// Strong emphasis.
    Strong,
    /// Struck through.
    Struck,
    /// A link to an `http`, `https` or `mailto` address.
    Link(String),
    /// A table; its first row is the head.
    Table,
    /// A row of a table.
    Row,
    /// A cell of a table.
    Cell,
    /// Nothing that shows.
    Plain,
}

/// Parses a document, which may be cut anywhere, as it is while it streams in.
pub fn parse(text: &str) -> Vec<Node> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut stack: Vec<(Kind, Vec<Node>)> = vec![(Kind::Plain, Vec::new())];
    // The language and text of the code block that is open.
    let mut code: Option<(String, String)> = None;
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => {
                        info.split([' ', ',']).next().unwrap_or_default().to_owned()
                    }
                    CodeBlockKind::Indented => String::new(),
                };
                code = Some((language, String::new()));
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some((language, text)) = code.take() {
                    push(&mut stack, Node::CodeBlock(language, text));
                }
            }
            Event::Start(tag) => stack.push((kind(&tag), Vec::new())),
            Event::End(_) => close(&mut stack),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => match &mut code {
                Some((_, code)) => code.push_str(&text),
                None => push(&mut stack, Node::Text(text.into_string())),
            },
            Event::Code(text) => push(&mut stack, Node::Code(text.into_string())),
            Event::SoftBreak => push(&mut stack, Node::Text("\n".into())),
            Event::HardBreak => push(&mut stack, Node::Break),
            Event::Rule => push(&mut stack, Node::Rule),
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                push(&mut stack, Node::Text(text.into_string()));
            }
            Event::TaskListMarker(done) => {
                push(&mut stack, Node::Text(if done { "☑ " } else { "☐ " }.into()))
            }
        }
    }
    while stack.len() > 1 {
        close(&mut stack);
    }
    stack.pop().map(|(_, nodes)| nodes).unwrap_or_default()
}

fn push(stack: &mut [(Kind, Vec<Node>)], node: Node) {
    if let Some((_, nodes)) = stack.last_mut() {
        match (nodes.last_mut(), &node) {
            (Some(Node::Text(before)), Node::Text(text)) => before.push_str(text),
            _ => nodes.push(node),
        }
    }
}

fn close(stack: &mut Vec<(Kind, Vec<Node>)>) {
    let depth = stack.len();
    let Some((kind, nodes)) = stack.pop() else { return };
    match kind {
        Kind::Plain => nodes.into_iter().for_each(|node| push(stack, node)),
        _ if depth > MAX_DEPTH => nodes.into_iter().for_each(|node| push(stack, node)),
        kind => push(stack, Node::Around(kind, nodes)),
    }
}

fn kind(tag: &Tag<'_>) -> Kind {
    match tag {
        Tag::Paragraph => Kind::Paragraph,
        Tag::Heading { level, .. } => Kind::Heading(*level as u8),
        Tag::BlockQuote(_) => Kind::Quote,
        Tag::List(start) => Kind::List(*start),
        Tag::Item => Kind::Item,
        Tag::Emphasis => Kind::Emphasis,
        Tag::Strong => Kind::Strong,
        Tag::Strikethrough => Kind::Struck,
        Tag::Link { dest_url, .. } if is_harmless(dest_url) => Kind::Link(dest_url.to_string()),
        Tag::Table(_) => Kind::Table,
        Tag::TableHead | Tag::TableRow => Kind::Row,
        Tag::TableCell => Kind::Cell,
        // Pictures of other sites would tell them who reads this; their description stays.
        _ => Kind::Plain,
    }
}

fn is_harmless(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    ["https://", "http://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.into())
    }

    fn around(kind: Kind, nodes: Vec<Node>) -> Node {
        Node::Around(kind, nodes)
    }

    #[test]
    fn the_usual_things_become_nodes() {
        let found = parse("# Hi\n\nA *b* `c`\n\n1. x\n2. y\n\n```rust\nfn f() {}\n```\n");
        let expected = vec![
            around(Kind::Heading(1), vec![text("Hi")]),
            around(
                Kind::Paragraph,
                vec![text("A "), around(Kind::Emphasis, vec![text("b")]), text(" "), Node::Code("c".into())],
            ),
            around(
                Kind::List(Some(1)),
                vec![around(Kind::Item, vec![text("x")]), around(Kind::Item, vec![text("y")])],
            ),
            Node::CodeBlock("rust".into(), "fn f() {}\n".into()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn html_and_dangerous_links_stay_text() {
        let found = parse(
            "Hi <script>alert(1)</script> [a](javascript:alert(1)) ![tracker](https://x.example/i.png)",
        );
        let shown = format!("{found:?}");
        assert!(!shown.contains("Link") && shown.contains("<script>alert(1)</script>"), "{shown}");
        assert!(shown.contains("tracker") && !shown.contains("x.example"), "{shown}");
        let link = Kind::Link("https://e.example".into());
        assert_eq!(
            parse("[b](https://e.example)"),
            [around(Kind::Paragraph, vec![around(link, vec![text("b")])])]
        );
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let whole = "- a\n  - b **c `d`**\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n```py\nprint('é')\n";
        for (end, _) in whole.char_indices() {
            parse(&whole[..end]);
        }
        let shown = format!("{:?}", parse(whole));
        assert!(shown.contains("CodeBlock(\"py\"") && shown.contains("Table"), "{shown}");
    }

    #[test]
    fn nesting_has_a_limit() {
        fn depth(nodes: &[Node]) -> usize {
            let inner = nodes.iter().map(|node| if let Node::Around(_, n) = node { depth(n) } else { 0 });
            1 + inner.max().unwrap_or(0)
        }
        assert!(depth(&parse(&"> ".repeat(2000))) <= MAX_DEPTH + 2);
        assert!(depth(&parse(&(">".repeat(2000) + "x"))) <= MAX_DEPTH + 2);
    }
}
