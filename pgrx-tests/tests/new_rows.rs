//! scratch
use anyhow::Result;
use upkeep_tests::testing;
#[test]
fn scratch() -> Result<()> {
    let db = testing::database()?;
    let out = db.server.client_command("psql", &db.name).args(["-X", "-f", "/tmp/nr/s.sql"]).output()?;
    println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!(
        "{}",
        db.server.log().lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}
