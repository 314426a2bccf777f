//! Nodes of markdown as elements of the page.

use leptos::prelude::*;

use crate::app::use_app;
use crate::caption::copy;
use crate::markdown::{Kind, Node, parse};

/// A text as its markdown shows it.
#[component]
pub(crate) fn Markdown(#[prop(into)] text: Signal<String>) -> impl IntoView {
    view! { <div class="markdown">{move || show_all(parse(&text.get()))}</div> }
}

fn show_all(nodes: Vec<Node>) -> AnyView {
    nodes.into_iter().map(show).collect_view().into_any()
}

fn show(node: Node) -> AnyView {
    match node {
        Node::Text(text) => text.into_any(),
        Node::Code(code) => view! { <code>{code}</code> }.into_any(),
        Node::CodeBlock(language, code) => view! { <CodeBlock language code/> }.into_any(),
        Node::Break => view! { <br/> }.into_any(),
        Node::Rule => view! { <hr/> }.into_any(),
        Node::Around(kind, nodes) => show_around(kind, nodes),
    }
}

fn show_around(kind: Kind, nodes: Vec<Node>) -> AnyView {
    if kind == Kind::Table {
        return show_table(nodes);
    }
    let inside = show_all(nodes);
    match kind {
        Kind::Paragraph => view! { <p>{inside}</p> }.into_any(),
        // The page's own headings come above those of an answer.
        Kind::Heading(1 | 2) => view! { <h3>{inside}</h3> }.into_any(),
        Kind::Heading(3) => view! { <h4>{inside}</h4> }.into_any(),
        Kind::Heading(_) => view! { <h5>{inside}</h5> }.into_any(),
        Kind::Quote => view! { <blockquote>{inside}</blockquote> }.into_any(),
        Kind::List(None) => view! { <ul>{inside}</ul> }.into_any(),
        Kind::List(Some(start)) => view! { <ol start=start.to_string()>{inside}</ol> }.into_any(),
        Kind::Item => view! { <li>{inside}</li> }.into_any(),
        Kind::Emphasis => view! { <em>{inside}</em> }.into_any(),
        Kind::Strong => view! { <strong>{inside}</strong> }.into_any(),
        Kind::Struck => view! { <s>{inside}</s> }.into_any(),
        Kind::Link(url) => {
            view! { <a href=url target="_blank" rel="noreferrer noopener">{inside}</a> }.into_any()
        }
        Kind::Table | Kind::Row | Kind::Cell | Kind::Plain => inside,
    }
}

fn show_table(rows: Vec<Node>) -> AnyView {
    let rows = rows.into_iter().enumerate().map(|(i, row)| {
        let cells = if let Node::Around(Kind::Row, cells) = row { cells } else { vec![row] };
        let cells = cells.into_iter().map(move |cell| match i {
            0 => view! { <th scope="col">{show(cell)}</th> }.into_any(),
            _ => view! { <td>{show(cell)}</td> }.into_any(),
        });
        view! { <tr>{cells.collect_view()}</tr> }
    });
    view! { <table><tbody>{rows.collect_view()}</tbody></table> }.into_any()
}

#[component]
fn CodeBlock(language: String, code: String) -> impl IntoView {
    let app = use_app();
    let copied = code.clone();
    view! {
        <div class="code">
            <div class="head">
                <span>{language}</span>
                <button class="plain" on:click=move |_| copy(app, copied.clone())>{move || app.words().copy}</button>
            </div>
            <pre tabindex="0"><code>{code}</code></pre>
        </div>
    }
}
