//! Writes the seeds of every reader to FOLDER/READER/, and prints the readers' names.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .unwrap_or_else(|| "corpus".into()),
    );
    for reader in selfadapt_fuzz::all() {
        let folder = folder.join(reader.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in selfadapt_fuzz::seeds(reader.name)?.into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}", reader.name);
    }
    Ok(())
}
