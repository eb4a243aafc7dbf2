//! What there is under `/v1`, a file for each kind of thing.

pub(crate) mod connections;
pub(crate) mod dead_letters;
pub(crate) mod devices;
pub(crate) mod host;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod modules;
pub(crate) mod outbox;
pub(crate) mod readings;
pub(crate) mod tables;
pub(crate) mod tail;
pub(crate) mod trials;

use serde::Deserialize;

use crate::params::NameParam;
use crate::views::Problem;

/// A view as JSON, or what went wrong.
pub(crate) type Answer<T> = Result<axum::Json<T>, Problem>;

/// `/…/{name}`
#[derive(Deserialize)]
pub(crate) struct Named {
    pub(crate) name: NameParam,
}

/// A listing is cut where its payloads become more than this; `next` says where to go on.
const PAGE_BYTES: usize = 8 << 20;
/// So many are asked for at once, whatever the payloads.
const AT_ONCE: usize = 32;

/// Fills a page of at most `limit` items. `ask` is given how many, and where to go on; `size` is in bytes.
async fn page<T, C: Clone, E, F>(
    limit: usize,
    mut cursor: Option<C>,
    ask: impl Fn(usize, Option<C>) -> F,
    size: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, Option<C>), E>
where
    F: Future<Output = Result<sandbar_control::Page<T, C>, E>>,
{
    let (mut items, mut bytes) = (Vec::new(), 0);
    loop {
        let part = ask(AT_ONCE.min(limit - items.len()), cursor).await?;
        // A filter that matches little is not searched through at once, either.
        let few = part.items.is_empty();
        bytes += part.items.iter().map(&size).sum::<usize>();
        items.extend(part.items);
        if part.next.is_none() || few || items.len() >= limit || bytes >= PAGE_BYTES {
            return Ok((items, part.next));
        }
        cursor = part.next;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn numbers(limit: usize, size: usize) -> (Vec<usize>, Option<usize>) {
        let ask = async |count, cursor: Option<usize>| {
            let begin = cursor.unwrap_or(0);
            let items: Vec<usize> = (begin..begin + count).take_while(|number| *number < 200).collect();
            let next = Some(begin + items.len()).filter(|next| *next < 200);
            Ok::<_, Infallible>(sandbar_control::Page { items, next })
        };
        page(limit, None, ask, |_| size).await.unwrap()
    }

    #[tokio::test]
    async fn a_page_ends_at_its_limit_at_the_end_and_when_it_is_large_enough() {
        assert_eq!(numbers(100, 1).await, ((0..100).collect(), Some(100)));
        assert_eq!(numbers(1000, 1).await, ((0..200).collect(), None));
        assert_eq!(numbers(1000, 1 << 20).await, ((0..32).collect(), Some(32)));
    }
}
