//! Reports as pages: self-contained, no script, nothing loaded (LAW 11).

pub mod html;
pub mod words;

use self::html::Html;
use crate::error::Result;
use crate::server::spi;

/// The head of a page and the start of its body. `style_hash`: of `style`, which alone the page's own policy lets through.
pub fn open(html: &mut Html, title: &str, style: &'static str, style_hash: &str) {
    let policy = format!("default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'");
    html.open("html", &[("lang", "en")]).open("head", &[]).void("meta", &[("charset", "utf-8")]);
    html.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy)]);
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.element("title", &[], title).style(style).close();
}

/// SHA-256 of a style sheet in base64.
pub fn style_hash(style: &str) -> Result<String> {
    let hash = spi::query_one(
        "SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8')), 'base64')",
        &[style.into()],
        |row| row.require::<String>(1),
    )?;
    Ok(hash.unwrap_or_default())
}
