//! One page of a btree index, read from its bytes (`nbtree.h`, `itup.h`): what it holds, and what a build would make of it.

use super::nbtree::{ITEM_POINTER, LINE_POINTER, Packing, TUPLE_HEADER, align};
use crate::server::index_pages::PAGE;

/// Flags of a page.
const LEAF: u16 = 1;
const DELETED: u16 = 4;
const META: u16 = 8;
const HALF_DEAD: u16 = 16;

/// Bits of a tuple's `t_info`.
const SIZE_MASK: u16 = 0x1FFF;
const ALTERNATIVE_TID: u16 = 0x2000;
const HAS_NULLS: u16 = 0x8000;
/// Bits of the offset in such a TID: a posting list, and the number of rows in it.
const IS_POSTING: u16 = 0x2000;
const COUNT_MASK: u16 = 0x0FFF;

const LINE_POINTERS_AT: usize = 24;
const META_MAGIC: u32 = 0x0005_3162;

type Page = [u8; PAGE];

/// What the meta page says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meta {
    /// Of the root; leaves are level 0.
    pub level: u32,
    /// Equal keys are equal byte by byte, and the index was built by a server that knew.
    pub all_equal_image: bool,
    pub is_empty: bool,
}

/// A page by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Leaf,
    Internal,
    Deleted,
    HalfDead,
    /// Never used, or left by a crash.
    New,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Content {
    pub kind: Kind,
    pub live_tuples: u32,
    /// Of those, tuples with a posting list.
    pub posting_tuples: u32,
    /// Rows that live tuples point to.
    pub rows: u32,
    /// Tuples known to be dead, which nothing has removed yet.
    pub dead_tuples: u32,
    pub free_bytes: u32,
    /// Leaf pages that a build would need for these rows: usually a part of one.
    pub rebuilt: f64,
    /// Of all live tuples' keys: what tuples that point to a page take.
    pub key_bytes: u64,
}

impl Content {
    fn of(kind: Kind) -> Self {
        Content {
            kind,
            live_tuples: 0,
            posting_tuples: 0,
            rows: 0,
            dead_tuples: 0,
            free_bytes: 0,
            rebuilt: 0.0,
            key_bytes: 0,
        }
    }
}

/// `None`: not the first page of a btree index.
pub fn meta(page: &Page) -> Option<Meta> {
    let at = LINE_POINTERS_AT;
    let is_meta = flags(page)? & META != 0 && u32_at(page, at)? == META_MAGIC;
    is_meta.then_some(())?;
    Some(Meta {
        level: u32_at(page, at + 12)?,
        all_equal_image: *page.get(at + 40)? != 0,
        is_empty: u32_at(page, at + 8)? == 0,
    })
}

/// What is on a page other than the first. `None`: it makes no sense.
pub fn content(page: &Page, packing: Packing) -> Option<Content> {
    // A page of zeros has no end of its line pointers.
    if u16_at(page, 14)? == 0 {
        return Some(Content::of(Kind::New));
    }
    let flags = flags(page)?;
    let kind = match flags {
        f if f & DELETED != 0 => Kind::Deleted,
        f if f & HALF_DEAD != 0 => Kind::HalfDead,
        f if f & LEAF != 0 => Kind::Leaf,
        _ => Kind::Internal,
    };
    let mut content = Content::of(kind);
    if kind != Kind::Leaf {
        return Some(content);
    }
    let (lower, upper) = (usize::from(u16_at(page, 12)?), usize::from(u16_at(page, 14)?));
    content.free_bytes = upper.checked_sub(lower)? as u32;
    let is_rightmost = u32_at(page, special(page)? + 4)? == 0;
    let first = LINE_POINTERS_AT + if is_rightmost { 0 } else { LINE_POINTER };
    let mut run: Option<Run> = None;
    for at in (first..lower).step_by(LINE_POINTER) {
        let pointer = u32_at(page, at)?;
        let (offset, flags, length) = ((pointer & 0x7FFF) as usize, (pointer >> 15) & 3, (pointer >> 17) as usize);
        match flags {
            1 => {}
            3 => {
                content.dead_tuples += 1;
                continue;
            }
            _ => continue,
        }
        let tuple = Tuple::read(page.get(offset..offset + length)?)?;
        content.live_tuples += 1;
        content.posting_tuples += u32::from(tuple.is_posting);
        content.rows += tuple.rows as u32;
        content.key_bytes += tuple.key_size as u64;
        match &mut run {
            Some(run) if packing.deduplicates && run.key == tuple.key => run.rows += tuple.rows,
            _ => {
                content.rebuilt += run.map_or(0.0, |run| run.pages(packing));
                run = Some(Run { key: tuple.key, size: tuple.key_size, rows: tuple.rows });
            }
        }
    }
    content.rebuilt += run.map_or(0.0, |run| match content.rows as usize == run.rows {
        // Nothing else is here: the run goes on to the left or to the right.
        true => packing.leaf_pages_within_run(run.size, run.rows),
        false => run.pages(packing),
    });
    Some(content)
}

/// Neighbours with the same key.
struct Run<'a> {
    key: (bool, &'a [u8]),
    size: usize,
    rows: usize,
}

impl Run<'_> {
    fn pages(&self, packing: Packing) -> f64 {
        packing.leaf_pages(self.size, self.rows)
    }
}

struct Tuple<'a> {
    /// Whether there are nulls in it, and its bytes after the header.
    key: (bool, &'a [u8]),
    /// Bytes without the posting list.
    key_size: usize,
    rows: usize,
    is_posting: bool,
}

impl<'a> Tuple<'a> {
    fn read(tuple: &'a [u8]) -> Option<Self> {
        let (info, offset) = (u16_at(tuple, 6)?, u16_at(tuple, 4)?);
        let size = usize::from(info & SIZE_MASK);
        let is_posting = info & ALTERNATIVE_TID != 0 && offset & IS_POSTING != 0;
        let (key_size, rows) = if is_posting {
            // Where the list begins stands in the block number of the TID.
            let begin = usize::from(u16_at(tuple, 0)?) << 16 | usize::from(u16_at(tuple, 2)?);
            let rows = usize::from(offset & COUNT_MASK);
            (begin + rows * ITEM_POINTER <= size).then_some((begin, rows))?
        } else {
            (size, 1)
        };
        let key = (info & HAS_NULLS != 0, tuple.get(TUPLE_HEADER..key_size)?);
        Some(Tuple { key, key_size: align(key_size), rows, is_posting })
    }
}

fn special(page: &Page) -> Option<usize> {
    let special = usize::from(u16_at(page, 16)?);
    (special + super::nbtree::SPECIAL <= PAGE && special > LINE_POINTERS_AT).then_some(special)
}

fn flags(page: &Page) -> Option<u16> {
    u16_at(page, special(page)? + 12)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indexes::bloat::nbtree::SPECIAL;

    const MERGING: Packing = Packing { fillfactor: 90, deduplicates: true };
    const PLAIN: Packing = Packing { fillfactor: 90, deduplicates: false };

    fn put16(page: &mut [u8], at: usize, value: u16) {
        page[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }

    fn put32(page: &mut [u8], at: usize, value: u32) {
        page[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// An index tuple with this key; more than one row make a posting list.
    fn tuple(key: &[u8; 8], rows: u16) -> Vec<u8> {
        let list = if rows > 1 { usize::from(rows) * ITEM_POINTER } else { 0 };
        let size = align(16 + list);
        let mut tuple = vec![0; size];
        tuple[8..16].copy_from_slice(key);
        let mut info = size as u16;
        if rows > 1 {
            info |= ALTERNATIVE_TID;
            put16(&mut tuple, 2, 16);
            put16(&mut tuple, 4, rows | IS_POSTING);
        } else {
            put16(&mut tuple, 2, 7);
            put16(&mut tuple, 4, 1);
        }
        put16(&mut tuple, 6, info);
        tuple
    }

    /// A page with these tuples; the first is the high key if there is a page to the right.
    fn page(flags: u16, next: u32, tuples: &[(Vec<u8>, u32)]) -> Box<Page> {
        let mut page = Box::new([0u8; PAGE]);
        let mut upper = PAGE - SPECIAL;
        for (i, (tuple, state)) in tuples.iter().enumerate() {
            upper -= tuple.len();
            page[upper..upper + tuple.len()].copy_from_slice(tuple);
            let pointer = upper as u32 | state << 15 | (tuple.len() as u32) << 17;
            put32(&mut page[..], LINE_POINTERS_AT + i * LINE_POINTER, pointer);
        }
        put16(&mut page[..], 12, (LINE_POINTERS_AT + tuples.len() * LINE_POINTER) as u16);
        put16(&mut page[..], 14, upper as u16);
        put16(&mut page[..], 16, (PAGE - SPECIAL) as u16);
        put32(&mut page[..], PAGE - SPECIAL + 4, next);
        put16(&mut page[..], PAGE - SPECIAL + 12, flags);
        page
    }

    const A: &[u8; 8] = b"aaaaaaaa";
    const B: &[u8; 8] = b"bbbbbbbb";

    #[test]
    fn a_leaf_is_counted() {
        let tuples = [
            (tuple(B, 1), 1), // the high key
            (tuple(A, 10), 1),
            (tuple(A, 1), 3), // dead
            (tuple(A, 1), 1),
            (tuple(B, 1), 1),
        ];
        let found = content(&page(LEAF, 9, &tuples), MERGING).unwrap();
        assert_eq!((found.kind, found.live_tuples, found.posting_tuples), (Kind::Leaf, 3, 1));
        assert_eq!((found.rows, found.dead_tuples), (12, 1));
        assert_eq!(found.key_bytes, 3 * 16);
        assert_eq!(found.rebuilt, MERGING.leaf_pages(16, 11) + MERGING.leaf_pages(16, 1));
        let used = tuples.iter().map(|(t, _)| t.len() + LINE_POINTER).sum::<usize>();
        assert_eq!(found.free_bytes as usize, PAGE - LINE_POINTERS_AT - SPECIAL - used);
        // Without a page to the right there is no high key.
        let found = content(&page(LEAF, 0, &tuples), PLAIN).unwrap();
        assert_eq!((found.live_tuples, found.rows), (4, 13));
        assert!((found.rebuilt - PLAIN.leaf_pages(16, 13)).abs() < 1e-9);
    }

    #[test]
    fn a_page_of_one_key_is_part_of_a_run() {
        let tuples: Vec<_> = (0..9).map(|_| (tuple(A, 132), 1)).collect();
        assert_eq!(content(&page(LEAF, 0, &tuples), MERGING).unwrap().rebuilt, 1.0);
    }

    #[test]
    fn other_pages_hold_no_rows() {
        for (flags, kind) in
            [(0, Kind::Internal), (2, Kind::Internal), (4 | 1, Kind::Deleted), (16 | 1, Kind::HalfDead)]
        {
            let found = content(&page(flags, 0, &[(tuple(A, 1), 1)]), MERGING).unwrap();
            assert_eq!(found, Content::of(kind), "{flags}");
        }
        assert_eq!(content(&[0; PAGE], MERGING), Some(Content::of(Kind::New)));
    }

    #[test]
    fn a_null_is_no_value() {
        let mut null = tuple(&[0; 8], 1);
        let info = u16_at(&null, 6).unwrap() | HAS_NULLS;
        put16(&mut null, 6, info);
        let tuples = [(tuple(&[0; 8], 1), 1), (null, 1)];
        let found = content(&page(LEAF, 0, &tuples), MERGING).unwrap();
        assert_eq!(found.rebuilt, 2.0 * MERGING.leaf_pages(16, 1));
    }

    #[test]
    fn the_meta_page() {
        let mut first = page(META, 0, &[]);
        put32(&mut first[..], 24, META_MAGIC);
        put32(&mut first[..], 32, 3);
        put32(&mut first[..], 36, 2);
        first[64] = 1;
        assert_eq!(meta(&first), Some(Meta { level: 2, all_equal_image: true, is_empty: false }));
        put32(&mut first[..], 24, 7);
        assert_eq!(meta(&first), None);
        assert_eq!(meta(&page(LEAF, 0, &[])), None);
        assert_eq!(meta(&[0; PAGE]), None);
    }

    proptest::proptest! {
        /// Whatever the bytes are: an answer, never a panic in somebody's backend.
        #[test]
        fn no_bytes_are_harmful(noise in proptest::collection::vec((0..PAGE, proptest::num::u8::ANY), 0..200), flags in 0u16..512) {
            let mut page = page(flags, 1, &[(tuple(A, 1), 1), (tuple(A, 30), 1), (tuple(B, 3), 1)]);
            for (at, byte) in noise {
                page[at] = byte;
            }
            let _ = (meta(&page), content(&page, MERGING));
        }
    }
}
