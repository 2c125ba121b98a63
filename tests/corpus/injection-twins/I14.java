import java.sql.*;

public class Dao {

  ResultSet find(Connection c, String id) throws SQLException {
    return c.createStatement().executeQuery("SELECT * FROM t WHERE id=" + id);
  }
}
